"""docs/reliability.md, made of the tests: which of them holds which fault. `python -m tests.reliability` writes it."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypeGuard

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "reliability.md"

FAULTS = {
    1: "The process is killed between the create and the commit that records it: the batch is found again by its tag",
    2: "It is killed during the upload: the orphaned file costs nothing, and is gone or collected by its name later",
    3: "It is killed in the middle of a load: one transaction, so nothing is half written, and the load runs again",
    4: "The connection to the database breaks during a COPY: rolled back, and run again",
    5: "Nobody knows whether a commit went through: the attempt is read again by its id",
    6: "The triggerer is killed: another one takes the wait over, with the deadline of the submission",
    7: "Two triggers fire for one batch: the second load changes nothing",
    8: "The scheduler is restarted: nothing is lost and nothing sent again",
    9: "A zombie and its retry are both alive: compare-and-swap on the epoch lets one of them send",
    10: "Two runs, or a backfill beside the nightly run: no job is in two open attempts",
    11: "A run is cleared after its success: it loads again at no cost, and the ledger stays as it was",
    12: "A run is cleared or marked while it waits: the paid batch lives on and is attached again",
    13: "A run is marked failed: the batch lives on, and recovery adopts it",
    14: "The Dag is paused for days: its batches are adopted, and an alert comes before the provider deletes results",
    15: "Code or prompt change while a batch is under way: what was frozen is what counts",
    16: "A trigger's event is empty or makes no sense: it fails loudly or waits again, and repeating it is safe",
    17: "Daylight saving changes at 02:00: no night is skipped, none runs twice",
    18: "The clocks of the machines differ: the database's clock decides",
    19: "No job is queued: success, and no provider is called",
    20: "429 in the provider's own words: waits as told, and sends again without a look",
    21: "5xx, 408, 409, a timeout or a reset after sending: in doubt, and never sent again by itself",
    22: "400 or 413: the job at fault alone is rejected, the others go",
    23: "401 or 403, a key revoked during the night: nothing more is sent with it, batches under way are kept",
    24: "404 for a batch that the ledger knows: taken for another account's, and never sent again",
    25: "A status that nobody knows: taken for running, with a warning",
    26: "A batch expires with partial results: what finished is loaded, only what was not billed goes again",
    27: "A batch is cancelled: its end is waited for, and what finished is loaded",
    28: "A batch ends with an error file only: the errors are loaded",
    29: "The same custom_id comes twice: the first counts, a different second one goes to quarantine",
    30: "Lines are missing: counted as missing, never as a success",
    31: "An unknown custom_id comes back: to quarantine, never matched by its position",
    32: "A download is cut short: noticed, and fetched again",
    33: "A line is corrupt: its bytes are kept in `reject`, the rest goes on",
    34: "Usage is missing or negative: the cost is unknown, not zero",
    35: "The results are past their retention: told to a person, and not paid for again by itself",
    36: "A model is retired: the jobs that ask for it are rejected, the others go",
    37: "The provider's limit of enqueued tokens is reached: postponed, the lowest priority last",
    38: "A batch is stuck past its window: an alert, and a person may cancel it, wait or move it",
    39: "An input holds what jsonb refuses, like U+0000 or half a character, 1e400, a key twice: kept as it came",
    40: "A job is larger than the provider's files may be: rejected, with the size and the limit",
    41: "Provider, model or job type do not exist, or do not go together: an error at the insert, or rejected with the reason",
    42: "A priority is negative, huge, text or NaN: refused at the insert",
    43: "SQL stands in a field: it is data",
    44: "A price is missing: the job runs, and is counted as unpriced",
    45: "A price changes while a batch is under way: the one at its submission counts",
    46: "The same dedup_key comes again: one job, and the caller gets the first one's id",
    47: "The disk is full: nothing is sent, and a load is rolled back",
    48: "A result does not fit the job type: failed, with the reason and the raw text, paid and counted as waste",
    49: "The model refuses, stops short, or answers with nothing: an outcome of its own, not a success",
    50: "No login gets 401 and a viewer who writes 403, on every route",
    51: "A huge body is refused with 413 before it is parsed",
    52: "A prompt is found in no log, XCom, rendered template, trigger row or exception, and where only figures may be seen",
    53: "A key is found in none of them either, and the SDKs' and HTTP clients' loggers stay at WARNING",
    54: "A URL that points at a private or metadata address is refused unless allowed; nothing is fetched for a user",
    55: "Script in a model's name, a label or an output is shown as text, and the page's policy would not run it",
    56: "A CSV cell that begins like a formula is quoted, and Markdown is escaped",
    57: "A budget is reached: nothing more is sent, the lowest priority waits",
    58: "The producer role inserts jobs and nothing else, the reporter sees no payload",
    59: "A gateway answers in the provider's place: nothing is certain that the provider did not say in its own error shape",
    60: "A zombie and its retry of different releases: what was sent is what the ledger says, and its members never change",
    61: "A server's settings, PgBouncer, a pooler that resets nothing: the same promises, or a refusal before anything is sent",
    62: "Two installations in one account, a ledger restored from a backup: foreign results are never loaded as ours",
    63: "The provider counts more successes than were read: nothing of that batch is sent again by itself",
    64: "Account, address or provider in trouble: the jobs stay, with one alert and bounded tries",
    65: "A job type or an adapter raises anything: that job alone is rejected, and no loop over batches stops at one",
    66: "A tool call, an image, a second choice, an unknown finish reason, a commentary: nothing paid for is dropped",
    67: "Cache writes, audio, images, tool tokens, searches: priced to the library's last digit, or unpriced",
    68: "Numbers of more than 64 bits, long decimals: the digits as they came",
    69: "Lines of a batch cannot be read: while one may be billed, nothing is deleted, and the batch can be loaded again",
    70: "TCP refused, TLS failed, a malformed header before the first byte: not sent, and not in doubt",
    71: "Ids that are not in the order of their commits: no job is out of sight",
    72: "A database error in the middle of a COPY: no byte of a payload in its message",
    73: "A work folder of somebody else, a redirect, another host in an answer, a compressed bomb: refused",
    74: "An account is rotated between a decision and its consequence: still looked for, or said that it cannot be",
    75: "More batches than Airflow maps, a missing pool, a paused recovery: said in words where the user looks",
    76: "An adopted batch is priced, dated and measured by its creation",
}

NOT_HELD_YET: set[int] = set()
"""Faults that no test holds so far; the page says so."""

_INTRO = """\
# Reliability: what is promised, and which test holds it

*Made of the tests by `python -m tests.reliability`; a test fails when it is out of date.*

**The promise.** No job is paid for twice, none is lost, on all three providers; and where that needs a person, the person
is told in words what happened and what to do.

**How it is proven.** The judge is never our own tables but the bill of the emulated providers, a program that shares no
code with the product: every job billed at most once, every billed result loaded or in quarantine, and the report equal to
the bill to the last cent.

- **The crash proof**, `make crash-test`: a real process against a real Postgres and the emulator dies by `os._exit` before
  and after every statement, commit and HTTP call of submit, recover and load; is started again, and runs to rest; then
  pairs of deaths, every fault of a provider, lists that lag, and three processes at the same work; and the same in worlds
  that are not ours: through PgBouncer, in a database whose settings are all others, beside another installation on the same
  accounts, in a ledger that is put back to the evening before, and behind a gateway that forwards a create and answers by
  itself. All single deaths are played in the plain world, and one in three of all else (`make crash-test EVERY=1`: all).
  `make test` plays a part of it.
- **The mutation guard**: without the intent, the fence, the settle wait, the epoch check or the load's lock, or with the
  SDKs' own retries, the same proof turns red (`tests/acceptance/test_crash.py`). A proof that cannot fail proves nothing.
  `make mutation-test` does the same to the code itself: it takes one condition or one write at a time out of a copy of the
  tree (`tests/mutation/mutations.py`), and shows which test turned red. `make test` sees to it that the list fits the code.
- **Interleavings**, `make interleave SEEDS=2000`: two or three actors, drawn at random (submits of one attempt by workers of
  different releases, recovery, the realtime fallback, a person, a load, a plan, retention), of which one moves at a time,
  from checkpoint to checkpoint. A seed draws the state they find, who they are, what the provider does wrong, and who moves;
  `make interleave SEED=41` tells one step by step, and `SURROUNDING=restored` or another world of the crash proof plays them
  there. No schedule is written by hand. At commit 83e6425 seed 81 found, in a restored ledger, that a batch was paid twice
  which the lost ledger had sent after a create of the same attempt was refused: its intent stood in the backup, and so it was
  taken for known. Before they were mended, at commit
  530d236, 2,000 seeds found:

  | what | seeds |
  |---|---|
  | a job is taken out of a batch that another release has sent: paid twice | 1535 |
  | the same: a paid answer is lost or goes to quarantine, and the report is below the bill | 592, 1008, 1381, 1480, 1668 |
  | the same: the ledger has fewer jobs than were sent, or a successor has no jobs and the schema refuses it | 251, 1335 |
  | after a 429, a release that can render none of its jobs closes the attempt and leaves them under it | 326, 471, 893 |

  Two fallbacks of which one closes the other's live attempt they did not find; `tests/use_cases/test_two_processes.py`
  holds that. On the mended tree all 2,000 (0 to 1999) find nothing; `make test` plays the
  first 50, and 8 in each other world.
- **Any order**, `tests/use_cases/test_any_order.py`: hypothesis draws runs, backfills, clears, kills, faults, releases and
  lags in random order, with the same judge at the end.
- **The soak**, `make soak`: nights that overlap on real Airflow components, while its worker, triggerer, scheduler,
  api-server and Postgres are killed at random; `SURROUNDING="second installation"` or another world of the crash proof has
  it there.
- **A test for each fault**, below, but for the one that says so. None is skipped.
"""

_LIMITS = """\
## What cannot be guaranteed, and why

- **Anthropic has no tag and no file to fence.** A create whose answer was lost can neither be found with certainty while it
  runs, nor be kept from arriving late. So at most one create per account is under way at a time. Exactly one unknown batch
  of the right time and size is adopted, and proven by the `custom_id`s in its results; if there is none, the attempt is
  *held*: its jobs wait until a person looks into Anthropic's console and decides (`nightbatch release`). **The risk:**
  whoever has a held attempt sent again while the first create did arrive, or still does, pays for its jobs twice. That is
  found afterwards, told, and booked as waste; it is not undone. `NIGHTBATCH_RELEASE_ANTHROPIC_AFTER_HOURS` takes that risk
  without a person; it is off unless you set it.
- **A gateway that lies with care.** What is refused with 4xx in the provider's own error envelope is taken for not done,
  whoever sent it, and so is a list without a sign of a cache in its headers for what the provider says now. A gateway that
  writes such an envelope after it forwarded a create, or an old list with a new `Date`, is believed.
- **A ledger restored from a backup** does not know what was sent since. It is recognised, and nothing is sent, until a person
  has said so and the providers' lists were read ([operations.md](operations.md#a-database-that-was-moved-restored-or-copied)).
  What is in no list stays unknown: realtime answers since the backup, and jobs inserted after it. Where OpenAI's results are
  deleted already, nobody can tell which jobs they answered, so all that may be among them end as cancelled. A server that tells
  nothing of itself, whose list was emptied by hand, is believed.
- **A provider that bills what it says it did not do.** A create that is refused, and a request for which no line and no
  count comes back, are taken for free, as the providers document. If one is billed all the same, the job is sent again and
  paid for twice, and only the provider's invoice shows it. Where the provider *counts* a success whose line does not come
  back, the job is taken for paid and is not sent again by itself.
- **The settle wait is a guess until it is measured.** `NIGHTBATCH_SETTLE_SECONDS` must be longer than a provider takes to
  show a new batch in its list. How long that is no document says. Until you have run `nightbatch doctor --live` with your
  own keys, it is unknown: a list that lags for longer than the wait can hide a batch that exists, and at Gemini or OpenAI
  its jobs would then go twice.
- **Nobody is told while nobody looks.** Alerts, and the adoption of batches that no run waits for, come from the hourly Dag
  `nightbatch_recover`. While that one is paused too, results can pass their retention unseen: they are lost then, and not
  paid for again by themselves.
- **A refusal that names no request.** Where a provider refuses a whole batch and does not say which request is at fault, all
  its jobs end as rejected, with the provider's words: nothing is paid, and nothing is sent until somebody has read them.
- **The clock of the triggerer** decides when a wait for a batch is given up (a day and more after its submission); all else
  goes by the database's clock. If it runs hours ahead, the wait ends early, and the hourly Dag loads the batch instead.
- **All of it is proven against the emulator only, so far.** The emulator follows the providers' documents and their SDKs,
  and speaks with the official Airflow operators; where a real provider does otherwise, the proof does not cover it.
"""


class BadMarker(Exception):
    """A `fault` marker that the page cannot show; the message says where it stands."""


def collect(folder: Path = ROOT / "tests") -> dict[int, list[str]]:
    """The tests of each fault, as ``path::name``, sorted. Raises `BadMarker`."""
    found: dict[int, set[str]] = {}
    for path in sorted(folder.rglob("test_*.py")):
        name = path.relative_to(folder.parent).as_posix()
        tree = ast.parse(path.read_text(), name)
        shown = set()
        for test, marker in _marked(tree):
            shown.add(marker)
            for number in _numbers(marker, name):
                found.setdefault(number, set()).add(f"{name}::{test}")
        for node in ast.walk(tree):
            if _is_marker(node, "fault") and node not in shown:
                raise BadMarker(f"{name}:{node.lineno}: put the marker on a test function, not elsewhere.")
    return {number: sorted(tests) for number, tests in sorted(found.items())}


def never_skipped(folder: Path = ROOT / "tests") -> list[str]:
    """The marked tests that could be passed over: those that mention a skip or an expected failure."""
    passed_over = set()
    for path in sorted(folder.rglob("test_*.py")):
        tree = ast.parse(path.read_text())
        functions = dict(_tests(tree))
        for test in {test for test, _ in _marked(tree)}:
            if any(_mentions_a_skip(node) for node in ast.walk(functions[test])):
                passed_over.add(f"{path.relative_to(folder.parent).as_posix()}::{test}")
    return sorted(passed_over)


def _mentions_a_skip(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and node.attr in ("skip", "skipif", "xfail", "importorskip")


def _tests(tree: ast.Module) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            yield node.name, node


def _marked(tree: ast.Module) -> Iterator[tuple[str, ast.Call]]:
    for name, function in _tests(tree):
        for decorator in function.decorator_list:
            if _is_marker(decorator, "fault"):
                yield name, decorator


def _is_marker(node: ast.AST, name: str) -> TypeGuard[ast.Call]:
    return isinstance(node, ast.Call) and ast.unparse(node.func) == f"pytest.mark.{name}"


def _numbers(marker: ast.Call, path: str) -> list[int]:
    numbers = [argument.value for argument in marker.args if isinstance(argument, ast.Constant)]
    known = [number for number in numbers if isinstance(number, int) and number in FAULTS]
    if not known or len(known) != len(marker.args) or marker.keywords:
        raise BadMarker(f"{path}:{marker.lineno}: a marker takes numbers of faults, 1 to {max(FAULTS)}.")
    return known


def page(tests: Mapping[int, list[str]]) -> str:
    """The whole page."""
    rows = [_row(number, text, tests.get(number, [])) for number, text in FAULTS.items()]
    table = "\n".join(["| | Fault → what happens | Held by |", "|---|---|---|", *rows])
    return f"{_INTRO}\n## The faults\n\n{table}\n\n{_LIMITS}"


def _row(number: int, text: str, tests: list[str]) -> str:
    held = "<br>".join(f"`{test.removeprefix('tests/')}`" for test in tests) or "**no test yet**"
    return f"| {number} | {text} | {held} |"


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(collect()))


if __name__ == "__main__":
    main()
