# Everything needs Python 3.11+ and make, and sets up the rest by itself in .venv, from the hashed lock files.
PYTHON ?= python3
BIN := .venv/bin
UV := $(BIN)/uv pip install --quiet --python $(BIN)/python
MINUTES ?= 20
SEEDS ?= 2000
JOBS ?= 1000000
export PYTHONUNBUFFERED := 1
# A package of Debian's, by root and one at a time; elsewhere nothing is installed, and the tests that need it are skipped.
install = ! command -v apt-get >/dev/null || [ "$$(id -u)" != 0 ] || flock Makefile sh -euc \
  'apt-get -qq update; DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes --no-install-recommends $(1) >/dev/null'
# Dozens of processes import Airflow here: compiled once it takes them half as long.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo test test-pgbouncer test-postgres-15 chromium pgbouncer postgres-15 check fmt lint up down status crash-test interleave fuzz mutation-test soak crash-peers bench bench-airflow bench-api bench-peers lock schema clean

help: ## what there is
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20

demo: .venv/.runtime ## a whole night on embedded parts, ending with the savings report
	@$(BIN)/python -m nightbatch_local.demo

test: .venv/.dev ## lint, types, import contracts and all tests
	@$(MAKE) --no-print-directory -j2 lint chromium pgbouncer postgres-15
	$(BIN)/python -m pytest

chromium: ## the browser that tests click with: installed on Debian by root; without it those tests are skipped
	@command -v chromium >/dev/null || $(call install,chromium)

pgbouncer: ## the pooler that tests connect through: installed as chromium is
	@[ -x /usr/sbin/pgbouncer ] || command -v pgbouncer >/dev/null || $(call install,pgbouncer)

postgres-15: ## Debian's PostgreSQL 15, for tests on another version than the embedded one: installed as chromium is
	@[ -x /usr/lib/postgresql/15/bin/postgres ] || $(call install,postgresql-15)

test-pgbouncer: .venv/.dev pgbouncer ## the use cases through PgBouncer in transaction mode
	NIGHTBATCH_SURROUNDING=pgbouncer NIGHTBATCH_OTHER_SERVERS=required $(BIN)/python -m pytest tests/use_cases

test-postgres-15: .venv/.dev postgres-15 ## the use cases on Debian's PostgreSQL 15
	NIGHTBATCH_SURROUNDING=postgres-15 NIGHTBATCH_OTHER_SERVERS=required $(BIN)/python -m pytest tests/use_cases

check: .venv/.dev lint ## what a commit needs: ruff, mypy, the import contracts and the unit tests, in under a minute
	$(BIN)/python -m pytest -n 2 tests/unit

fmt: .venv/.dev ## format, and mend what ruff can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lint: .venv/.dev ## ruff, mypy and the import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

up: .venv/.runtime ## the stack with the Airflow UI on 127.0.0.1, kept running; .env holds keys for real providers
	@$(BIN)/python -m nightbatch_local.stack up

down: .venv/.runtime ## stop what `make up` started
	@$(BIN)/python -m nightbatch_local.stack down

status: .venv/.runtime ## what of `make up` is running
	@$(BIN)/python -m nightbatch_local.stack status

crash-test: .venv/.dev pgbouncer ## kill the process at every step, in several surroundings; the emulator's bill is the judge
	$(BIN)/python -m tests.crash.proof --every $(or $(EVERY),3)

mutation-test: .venv/.dev ## take each part of the protocol out of a copy: some test has to turn red; ONLY=name chooses
	$(BIN)/python -m tests.mutation $(ONLY)

interleave: .venv/.dev ## processes side by side, SEEDS=2000 schedules; the bill is the judge; SEED=N tells one, SURROUNDING="second installation" plays them elsewhere
	$(BIN)/python -m tests.interleave $(if $(SURROUNDING),--surrounding "$(SURROUNDING)") $(if $(SEED),--seed $(SEED),--seeds $(SEEDS))

fuzz: .venv/.dev ## schemas and templates of every kind at every provider, EXAMPLES=5000 each; the emulator is the judge
	$(BIN)/python -m tests.fuzz --examples $(or $(EXAMPLES),5000)

soak: .venv/.dev pgbouncer ## real Airflow for MINUTES=20 while its processes, Postgres and the providers are killed at random; SURROUNDING="restored": elsewhere
	$(BIN)/python -m tests.soak --minutes $(MINUTES) $(if $(SURROUNDING),--surrounding "$(SURROUNDING)")

crash-peers: .venv/.dev ## the same crash for nightbatch and for Airflow's own batch operators: jobs billed
	$(BIN)/python -m tests.bench.crash_peers

bench-api: .venv/.dev ## 50 clients on the REST API while a night runs: errors, and how long answers take
	$(BIN)/python -m tests.bench.api_clients

bench: .venv/.dev ## every stage of a night beside its own limit, thirty nights, imports, waits; QUICK=1 in under 5 minutes
	$(BIN)/python -m tests.bench $(if $(QUICK),--quick)

bench-airflow: .venv/.dev ## a night of JOBS=1000000 jobs through real Airflow and the emulator: time, Airflow's share, memory
	$(BIN)/python -m tests.bench.airflow_night --jobs $(JOBS)

bench-peers: .venv/.dev ## the same jobs through others: time, memory, and what is billed after a crash
	$(BIN)/python -m tests.bench.peers

lock: .venv/.dev ## resolve the dependencies of pyproject.toml again
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --extra local --no-emit-package nightbatch-local \
	  --group build pyproject.toml -o requirements.lock
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --extra local --no-emit-package nightbatch-local \
	  --group build --group dev -c requirements.lock pyproject.toml -o requirements-dev.lock

schema: .venv/.dev ## write docs/schema.sql from the migrations, for reading; a test keeps it true
	$(BIN)/python -m tests.postgres.schema

clean: ## remove what was built here
	rm -rf .venv var .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis

.venv/.python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "nightbatch needs Python 3.11 or newer: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv --clear .venv
	@sed -n '/^uv==/,/[^\\]$$/p' requirements.lock > .venv/uv.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r .venv/uv.lock
	@touch $@

.venv/.runtime: .venv/.python requirements.lock pyproject.toml
	$(UV) --require-hashes -r requirements.lock
	$(UV) --no-deps --no-build-isolation -e .
	@touch $@

.venv/.dev: .venv/.runtime requirements-dev.lock
	$(UV) --require-hashes -r requirements-dev.lock
	@touch $@
