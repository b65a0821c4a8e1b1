"""The mutations, in the order of the files. Keep the texts small: they have to follow every change of the code."""

from __future__ import annotations

from tests.mutation.guard import Mutation

_LEDGER = "postgres/store.sql"
_LIFECYCLE = "postgres/lifecycle.sql"
_STORE = "postgres/store.py"
_DOUBT = "test_in_doubt.py::"
_LATE = "test_whoever_lost_an_attempt_to_another_process_changes_nothing_of_it"


def _without(name: str, place: tuple[str, str], old: str, new: str, *tests: str) -> Mutation:
    """``tests`` stand in tests/use_cases; those without a file in test_protocol.py."""
    files = (test if "::" in test else f"test_protocol.py::{test}" for test in tests)
    return Mutation(name, *place, old, new, tuple(f"tests/use_cases/{file}" for file in files))


MUTATIONS: tuple[Mutation, ...] = (
    # -- submission
    _without(
        "members_leave_whatever_was_frozen",
        ("batches/submission.py", "_freeze"), "if current.payload_sha256 is None:", "if True:",
        "test_the_members_of_what_was_frozen_stay_whatever_is_rendered_later",
    ),
    _without(
        "a_404_after_a_429_rejects",
        ("batches/submission.py", "_refused"), "isinstance(error, Absent) and batch.epoch > 1", "False",
        f"{_DOUBT}test_an_input_that_expired_while_the_provider_was_busy_is_uploaded_again",
    ),
    # -- doubt
    _without(
        "the_settle_wait_counts_from_the_intent",
        ("batches/in_doubt.py", "resolve_doubt"), 'seconds_since("fence"', 'seconds_since("intent"',
        "test_the_settle_wait_begins_with_the_fence",
    ),
    _without(
        "known_batches_are_candidates",
        ("batches/in_doubt.py", "find"), " if candidate.provider_batch_id not in known", "",
        "test_a_batch_of_ours_is_no_candidate_for_another_attempt",
    ),
    # -- recovery
    _without(
        "the_look_back_books_on_suspicion",
        ("batches/recovery.py", "_look_back"), " if late.certain", "",
        "test_looking_back_books_nothing_on_suspicion",
    ),
    _without(
        "the_look_back_uses_any_account",
        ("batches/recovery.py", "_look_back"),
        "not accounts.reaches(store, provider, batch.account_fingerprint or \"\")", "False",
        "test_looking_back_asks_no_account_but_the_one_that_sent",
    ),
    # -- loading
    _without(
        "the_price_of_the_load",
        ("batches/loading.py", "_rates"), "at=batch.submitted_at", "at=store.now()",
        "test_faults_of_data.py::test_a_price_that_changed_since_does_not_touch_what_was_sent",
    ),
    _without(
        "counts_not_told_are_all_here",
        ("batches/loading.py", "holds_all_of"), "if state.counts else None", "if state.counts else len(self.members)",
        "test_where_the_provider_counts_nothing_what_is_missing_may_be_billed",
    ),
    _without(
        "a_failed_batch_is_closed_twice",
        ("batches/loading.py", "_close_failed"), '.state != "submitted"', '.state == ""',
        "test_a_refusal_of_the_queue_is_learned_from_once",
    ),
    _without(
        "disown_forgets_the_owner",
        (_STORE, "disown"), "owner is not None", "False",
        "test_a_batch_adopted_by_mistake_goes_to_the_attempt_that_its_lines_name",
    ),
    # -- walking the lists
    _without(
        "an_intent_that_came_to_nothing_makes_a_batch_known",
        ("batches/walk.py", "_attempt_of"), 'return "unknown" if found.unsent else found', "return found",
        "test_home.py::test_what_a_lost_ledger_sent_after_a_refused_create_is_adopted",
    ),
    # -- retrying
    _without(
        "retry_without_the_lock",
        ("batches/retrying.py", "retry"), "store.lock_batch(batch_id)", "pass",
        "test_two_retries_at_once_are_one_decision",
    ),
    _without(
        "retry_takes_what_was_answered_later",
        (_LIFECYCLE, "unanswered"), "later.finished_at > r.finished_at", "false",
        "test_a_retry_leaves_alone_what_a_later_attempt_answered",
    ),
    # -- the ledger's statements
    _without("take_over_keeps_the_epoch", (_LEDGER, "take_over"), "SET epoch = epoch + 1", "SET epoch = epoch", _LATE),
    _without("throttled_without_the_epoch", (_LEDGER, "record_throttled"), " AND epoch = %(epoch)s", "", _LATE),
    _without("held_without_the_epoch", (_LEDGER, "record_held"), " AND epoch = %(epoch)s", "", _LATE),
    _without("fence_without_the_epoch", (_LEDGER, "record_fence"), " AND epoch = %(epoch)s", "", _LATE),
    _without("close_without_the_epoch", (_LEDGER, "close_attempt"), " AND epoch = %(epoch)s", "", _LATE),
    _without(
        "a_new_intent_keeps_the_fence",
        (_LEDGER, "record_intent"), ", fenced_at = NULL", "",
        "test_a_new_intent_needs_a_new_fence",
    ),
    _without(
        "a_closed_attempt_is_submitted",
        (_LEDGER, "record_submission"), " AND state IN ('uploaded', 'submitting', 'held')", "",
        "test_a_create_answered_after_its_attempt_was_given_up_is_booked_as_a_duplicate",
    ),
    _without(
        "a_postponed_job_loses_an_attempt",
        (_LEDGER, "free_members"), "attempts - %(uncounted)s", "attempts",
        "test_a_job_that_is_postponed_has_not_been_tried",
    ),
    _without(
        "a_claim_takes_held_jobs",
        (_LEDGER, "claim_known"), " AND o.batch_id IS NULL", "",
        "test_a_plan_claims_no_job_that_was_taken_since_it_looked",
    ),
)  # fmt: skip
