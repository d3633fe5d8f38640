# Data Analysis Platform. `make` lists what there is.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
# Where these are set for every program, as in many container images, Python's starts take several times as long.
unexport PYTHONDONTWRITEBYTECODE PYTHONUNBUFFERED

INVENTORY ?= local
# A file of `dap bundle create`, for machines without a network.
BUNDLE ?=
export BUNDLE
RUNNERS ?= 2
BIN := .venv/bin

##@ Use
.PHONY: deploy
deploy: run-env ## Bring the platform up on the inventory's machines (INVENTORY=local BUNDLE=)
	$(BIN)/dap -e $(INVENTORY) deploy $(if $(BUNDLE),--bundle '$(BUNDLE)')

.PHONY: status
status: run-env ## Show what runs where
	$(BIN)/dap -e $(INVENTORY) status

.PHONY: verify
verify: run-env ## Prove from a user's place that the platform works
	$(BIN)/dap -e $(INVENTORY) verify

.PHONY: credentials
credentials: run-env ## Show every login (secret!)
	$(BIN)/dap -e $(INVENTORY) credentials

.PHONY: destroy
destroy: run-env ## Remove containers and rendered files; data and secrets stay
	$(BIN)/dap -e $(INVENTORY) destroy

##@ Develop
.PHONY: test
test: check ## All of it: the checks, then real deployments on this machine
	$(BIN)/pytest -m alone tests/integration
	$(BIN)/pytest -m "not alone" --numprocesses 4 --dist loadscope --no-loadscope-reorder \
	  tests/integration tests/double tests/lab

.PHONY: bench
bench: dev-env ## Measure beside baselines; on a machine that does nothing else
	$(BIN)/python -m tests.bench

.PHONY: bench-full
bench-full: dev-env ## The same with more rounds and more data
	$(BIN)/python -m tests.bench --full

.PHONY: chaos
chaos: dev-env ## Hit a platform in use with faults, and see that it comes back (25 minutes)
	$(BIN)/python -m tests.chaos

.PHONY: lab
lab: dev-env ## Several machines on this one, with the platform on them (RUNNERS=2)
	$(BIN)/python -m tests.lab up $(RUNNERS)

.PHONY: lab-down
lab-down: dev-env ## Remove the lab
	$(BIN)/python -m tests.lab down

.PHONY: check
check: dev-env ## Linters, types, schemas, rendered files, unit tests (under a minute)
	$(BIN)/python -m tests.lint
	$(BIN)/pytest --numprocesses 4 --dist loadfile --quiet tests/unit tests/render

.PHONY: audit
audit: dev-env ## Ask osv.dev for known holes in all that is pinned (needs the Internet)
	$(BIN)/python -m tests.audit

.PHONY: format
format: dev-env ## Format the Python code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.PHONY: reference
reference: dev-env ## Write the generated reference pages and examples
	$(BIN)/python -m dap.reference

.PHONY: lock
lock: dev-env ## Resolve the newest allowed versions into requirements.lock
	$(BIN)/uv pip compile --quiet --universal --upgrade --extra dev --generate-hashes \
	  --no-emit-index-url --no-header pyproject.toml --output-file requirements.lock

.PHONY: clean
clean: ## Remove the virtual environment and caches
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .cache

##@ Help
.PHONY: help
help: ## This list
	@awk 'BEGIN {FS = ":.*## "} /^##@ / {printf "\n%s\n", substr($$0, 5)} \
	  /^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: run-env dev-env
run-env:
	@scripts/bootstrap run
dev-env:
	@scripts/bootstrap dev
