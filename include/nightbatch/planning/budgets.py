"""Keep a night within its budgets: what does not fit waits, the lowest priority first."""

from __future__ import annotations

from nightbatch.core.days import night_of
from nightbatch.core.settings import Settings
from nightbatch.postgres import plans
from nightbatch.postgres.plans import Budget
from nightbatch.postgres.store import Store


def apply_budget(store: Store, settings: Settings) -> bool:
    """Leave out of a plan what tonight's budgets have no room for; return whether there is any budget at all.

    Call it in the transaction that plans: what is claimed is set aside in the same one, so two plans cannot spend it twice.
    """
    found = plans.budgets(store, night_of(store.now(), settings))
    for budget in found:
        waiting, unpriced = plans.apply_budget(store, budget)
        _tell(store, budget, waiting, unpriced)
    return bool(found)


def _tell(store: Store, budget: Budget, waiting: int, unpriced: int) -> None:
    subject, covers = str(budget.id), budget.covers or "everything"
    if waiting > unpriced:
        store.raise_alert(
            "budget_reached",
            subject,
            f"The budget of {budget.usd_per_night} USD a night for {covers} is spoken for: {waiting - unpriced} jobs wait,"
            " the lowest priority first. They go with the next night, or when the budget is raised.",
        )
    else:
        store.resolve_alert("budget_reached", subject)
    if unpriced:
        store.raise_alert(
            "price_missing",
            subject,
            f"{unpriced} jobs under the budget for {covers} have no known price, so they cannot be held to it and wait."
            " Add the price to nightbatch.price_override.",
        )
    else:
        store.resolve_alert("price_missing", subject)
