"""Two databases on one account: numbers mean nothing beyond one of them, tags and nonces do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import psycopg
import pytest

from nightbatch.core.errors import SubmissionInDoubt
from nightbatch.core.models import ProviderName, parse_custom_id
from nightbatch.core.profiles import BUILT_IN
from nightbatch.postgres.migrate import migrate
from nightbatch.postgres.store import open_store
from nightbatch_local.emulator.process import EmulatorProcess
from nightbatch_local.postgres.embedded import EmbeddedPostgres
from tests.use_cases.conftest import World


@pytest.fixture
def staging(world: World, postgres_server: EmbeddedPostgres) -> Iterator[World]:
    """Another installation that numbers its jobs and attempts alike, with the same keys."""
    name = f"staging_{world.account}"
    dsn = postgres_server.create_database(name)
    migrate(dsn)
    with open_store(dsn) as store:
        yield World(dsn, store, world.emulator, replace(world.settings), world.account)
    with psycopg.connect(postgres_server.dsn(), autocommit=True) as admin:
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def slow(emulator: EmulatorProcess) -> Iterator[None]:
    """Batches end only when they are cancelled."""
    emulator.control("POST", "turnaround", {"seconds": 600})
    yield
    emulator.control("POST", "turnaround", {"seconds": 0.2})


def test_every_request_carries_the_installation_and_a_nonce_of_its_attempt(
    world: World, provider: ProviderName
) -> None:
    world.insert(provider, 2)
    world.night("r1")
    (installation,) = world.rows("SELECT id FROM nightbatch.installation")
    (batch,) = world.store.run_batches("r1")
    assert batch.nonce is not None and batch.nonce.startswith(installation)
    assert batch.tag.startswith(f"nb-{installation}-") and len(batch.tag) == 35
    named = [parse_custom_id(line["custom_id"]) for line in world.bill()]
    assert {request.nonce for request in named if request} == {batch.nonce}
    world.judge()


@pytest.mark.fault(62)
def test_a_batch_of_another_installation_in_the_workspace_is_never_taken_for_ours(world: World, staging: World) -> None:
    """Anthropic shows no tag: a batch of the same size and time has to prove by its lines whose it is."""
    world.insert("anthropic", 3, headline="Production")
    staging.insert("anthropic", 3, headline="Staging")
    (ours,), (theirs,) = world.plan(), staging.plan()
    assert ours.id == theirs.id
    world.emulator.fault("anthropic", "batch_create", "reset", times=1)
    with pytest.raises(SubmissionInDoubt):
        world.submit(ours)
    staging.submit(theirs)
    staging.load(theirs.id)
    with pytest.raises(SubmissionInDoubt):
        world.submit_until_certain(ours)
    assert world.store.batch(ours.id).provider_batch_id is None
    assert world.rows("SELECT count(*) FROM nightbatch.result") == [0]
    assert set(staging.states().values()) == {"succeeded"}


@pytest.mark.fault(62)
def test_a_batch_adopted_while_it_ran_is_given_back_when_its_lines_are_another_installations(
    world: World, staging: World, slow: None
) -> None:
    world.insert("anthropic", 3)
    staging.insert("anthropic", 3)
    (ours,), (theirs,) = world.plan(), staging.plan()
    world.emulator.fault("anthropic", "batch_create", "reset", times=1)
    with pytest.raises(SubmissionInDoubt):
        world.submit(ours)
    staging.submit(theirs)
    world.submit_until_certain(ours)
    adopted = world.store.batch(ours.id)
    assert adopted.provider_batch_id == staging.store.batch(theirs.id).provider_batch_id
    staging.provider("anthropic").cancel(adopted.provider_batch_id or "")
    with pytest.raises(Exception, match="another installation"):
        world.load(ours.id)
    assert (world.store.batch(ours.id).state, world.store.batch(ours.id).provider_batch_id) == ("held", None)
    assert world.rows("SELECT count(*) FROM nightbatch.result") == [0]


def test_two_installations_share_all_accounts_and_each_gets_its_own_answers(world: World, staging: World) -> None:
    for name in BUILT_IN:
        world.insert(name, 3, headline=f"Production {name}")
        staging.insert(name, 3, headline=f"Staging {name}")
    for run in ("r1", "r2"):
        world.night(run)
        staging.night(run)
    assert set(world.states().values()) == set(staging.states().values()) == {"succeeded"}
    bill = world.bill()
    assert len({line["custom_id"] for line in bill}) == len(bill) == 18
    for side in (world, staging):
        (installation,) = side.rows("SELECT id FROM nightbatch.installation")
        assert sum(f"_{installation}" in line["custom_id"] for line in bill) == 9


def test_an_attempt_that_an_earlier_release_rendered_still_loads(world: World, provider: ProviderName) -> None:
    """Its custom_ids have no nonce, and the ledger says so."""
    world.insert(provider, 2)
    (batch,) = world.plan()
    with pytest.MonkeyPatch.context() as earlier:
        earlier.setattr("nightbatch.core.ledger.Batch.fresh_nonce", None)
        world.submit(batch)
    assert world.store.batch(batch.id).nonce is None
    assert world.load(batch.id).succeeded == 2
    world.judge()
