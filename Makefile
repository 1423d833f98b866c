# One target, one job. `make` alone lists them.
#
# PYTHON names the interpreter that the virtual environment is made from: make PYTHON=python3.13 install

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
REPORTS := .cache

.DEFAULT_GOAL := help
.PHONY: help install check compiled unit unit-compiled contract test calibration bench bench-calibration bench-cluster \
        bench-core bench-operator bench-router bench-swap bench-venv soak-swap fuzz mutation lock clean cluster cluster-down \
        e2e demo image need-python need-go

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9 -]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(VENV)/.installed ## make .venv from the lock; nothing global is touched

$(VENV)/.installed: requirements-dev.lock pyproject.toml | need-python
	@echo "== install: .venv from requirements-dev.lock"
	@$(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@mkdir -p $(REPORTS)
	@touch $@

check: install need-go ## format, lint, types, import contracts, generated files, Go format; writes nothing
	@echo "== check: format"
	@$(BIN)/ruff format --check .
	@echo "== check: lint"
	@$(BIN)/ruff check .
	@echo "== check: types"
	@$(BIN)/mypy
	@echo "== check: import contracts"
	@$(BIN)/lint-imports --no-logo
	@echo "== check: generated files"
	@$(BIN)/arbiter crds --check
	@echo "== check: Go format"
	@test -z "$$(gofmt -l tests devcluster)" || { gofmt -d tests devcluster; exit 1; }

unit: install ## unit tests, with at least 90 % of branches covered in api/ and in core/
	@echo "== unit"
	@$(BIN)/pytest -n auto tests/unit --junitxml=$(REPORTS)/unit.xml --cov=arbiter --cov-branch --cov-report=
	@$(BIN)/coverage report --include='operator/arbiter/api/*' --fail-under=90
	@$(BIN)/coverage report --include='operator/arbiter/core/*' --fail-under=90

compiled: install ## the package with its hot modules compiled, as the image ships it, in .cache/compiled; needs gcc
	@$(BIN)/python -m tests.compiled

# PYTHONPATH reaches the processes that tests start, too. Of core/, what is compiled is tested.
unit-compiled: compiled ## the router's unit tests once more, on the compiled modules
	@echo "== unit, on the compiled modules"
	@PYTHONPATH=$(CURDIR)/$(REPORTS)/compiled ARBITER_EXPECT_COMPILED=1 $(BIN)/pytest -n auto -o pythonpath=. -m 'not sources' \
	  tests/unit/router tests/unit/core/test_histogram.py tests/unit/core/test_traffic.py \
	  --junitxml=$(REPORTS)/unit-compiled.xml

contract: install need-go ## what the API server's own code, and the repository's rules, say
	@echo "== contract: the first run builds the API server's validation code, which takes two minutes"
	@$(BIN)/pytest tests/contract --junitxml=$(REPORTS)/contract.xml

test: check unit unit-compiled contract e2e ## everything; this is what CI runs
	@echo "== calibration, short: a new seed each time"
	@$(BIN)/python -m bench.calibration --quick
	@$(BIN)/python tests/count.py $(foreach suite,unit unit-compiled contract e2e,$(REPORTS)/$(suite).xml)

calibration: install ## the evidence over thousands of simulated ramps; SEED=n repeats one run; about eight minutes
	@$(BIN)/python -m bench.calibration $(if $(SEED),--seed $(SEED)) $(if $(REPORT),--report $(REPORT))

bench: bench-core ## all benches that need no cluster

bench-venv: $(REPORTS)/bench-venv/.installed ## the router's peers, in an environment of their own (0.9 GB)

$(REPORTS)/bench-venv/.installed: bench/requirements-router.lock | need-python
	@$(PYTHON) -m venv --clear $(REPORTS)/bench-venv
	@$(REPORTS)/bench-venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes \
	  -r bench/requirements-router.lock
	@touch $@

bench-router: compiled bench-venv ## the router beside nginx, Envoy, vllm-router and LiteLLM; QUICK=1 PEER=envoy REPEATS=3
	@$(BIN)/python -m bench.router $(if $(QUICK),--quick) $(foreach peer,$(PEER),--peer $(peer)) \
	  $(if $(REPEATS),--repeats $(REPEATS))

fuzz: install ## the router's HTTP parsers against another one; SEED=n repeats a run, SECONDS=n bounds it
	@$(BIN)/python -m tests.fuzz $(if $(SEED),--seed $(SEED)) $(if $(SECONDS),--seconds $(SECONDS))

bench-cluster: install ## the local cluster: seconds up and down, memory when idle; about five minutes, as root
	@$(BIN)/python -m bench.devcluster

bench-operator: install need-go ## the operator: 1,000 models and 100 pools, and a first completion; QUICK=1 ONLY=crowd REPEATS=3
	@$(BIN)/python -m bench.operator $(if $(QUICK),--quick) $(if $(ONLY),--only $(ONLY)) \
	  $(if $(REPEATS),--repeats $(REPEATS))

bench-swap: install ## swaps on a real cluster: promoted, undone, rolled back, and to a cold model; REPEATS=n
	@$(BIN)/python -m bench.swap $(if $(REPEATS),--repeats $(REPEATS))

soak-swap: install ## fifty swaps between identical models on a real cluster, and what routers counted; RAMPS=n; half an hour
	@$(BIN)/python -m bench.soak $(if $(RAMPS),--ramps $(RAMPS))

bench-calibration: install ## the evidence over thousands of ramps drawn from what a soak recorded; SEED=n REPORT=file
	@$(BIN)/python -m bench.recorded $(if $(SEED),--seed $(SEED)) $(if $(REPORT),--report $(REPORT))

bench-core: install ## one evidence block, histograms, schemas: time of each
	@$(BIN)/python -m bench.core

mutation: install ## how many planted faults in core/ the unit tests notice; about half an hour
	@$(BIN)/python -m bench.mutation

lock: install ## resolve all locks anew, with hashes and without any address
	@$(BIN)/uv pip compile pyproject.toml --quiet --no-header --universal --python-version 3.11 \
	  --generate-hashes --no-emit-index-url --upgrade --output-file requirements.lock
	@$(BIN)/uv pip compile pyproject.toml --quiet --no-header --universal --python-version 3.11 --group dev \
	  --generate-hashes --no-emit-index-url --upgrade --constraints requirements.lock --output-file requirements-dev.lock
	@$(BIN)/uv pip compile --quiet --no-header --universal --python-version 3.11 --group build \
	  --generate-hashes --no-emit-index-url --upgrade --constraints requirements-dev.lock \
	  --output-file requirements-build.lock
	@$(BIN)/uv pip compile bench/requirements-router.in --quiet --no-header --universal --python-version 3.11 \
	  --generate-hashes --no-emit-index-url --upgrade --output-file bench/requirements-router.lock

clean: ## remove what the other targets made here
	@rm -rf $(VENV) $(REPORTS) .coverage .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache mutants

cluster: install ## a real one-node Kubernetes on this machine (Linux, root); the first time builds it all
	@$(BIN)/python -m devcluster up --install

cluster-down: install ## take it down and leave nothing behind
	@$(BIN)/python -m devcluster down

e2e: install need-go ## cluster tests, on the cluster that is up or on one of their own; K=expression chooses among them
	@echo "== e2e: the first run builds a cluster and the images, which takes a quarter of an hour"
	@DEVCLUSTER_INSTALL=1 $(BIN)/pytest tests/e2e $(if $(K),-k '$(K)') --junitxml=$(REPORTS)/e2e.xml

image: install ## our container images, as archives in the user's cache; NAME='arbiter ollama' builds some of them
	@$(BIN)/python -m devcluster.images --install $(NAME)

demo: ## not built yet
	@echo "make $@: not built yet (see CHANGELOG.md)" >&2
	@exit 2

need-python:
	@command -v $(PYTHON) >/dev/null || { \
	  echo "missing: $(PYTHON). Install Python 3.11 to 3.14, or name one: make PYTHON=python3.13 install" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' || { \
	  echo "wrong version: $$($(PYTHON) --version). Arbiter needs 3.11 to 3.14: make PYTHON=python3.13 install" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "missing: the venv module of $(PYTHON). On Debian: apt-get install python3-venv" >&2; exit 1; }

need-go:
	@command -v go >/dev/null || { \
	  echo "missing: go. The contract tests run the API server's own code: install Go 1.26 or newer" >&2; exit 1; }
