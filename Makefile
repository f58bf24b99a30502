.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c

PYTHON ?= python3
BIN := .venv/bin
# The folder of wheels that requirements.txt names comes later, and pip says so for every package.
quietly := 2>&1 | { grep -v "^WARNING: Location .* is ignored" || true; }

help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup:  ## Install everything into .venv and .venv-cloud
	@$(MAKE) --silent --no-print-directory --jobs=2 .venv/.installed .venv-cloud/.installed .local/lambda-wheels

.venv/.installed: requirements.txt requirements-dev.txt
	@$(PYTHON) -c 'import sys; sys.exit("Thermonet needs Python 3.11 or newer" if sys.version_info < (3, 11) else 0)'
	@echo "Installing the application and its tools into .venv (about a minute, once)"
	@$(PYTHON) -m venv .venv
	@# The wheels for Lambda are not for this environment.
	@rm -f .local/lambda-wheels
	@$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-dev.txt $(quietly)
	@touch $@

.local/lambda-wheels: requirements.txt ops/packaging.py | .venv/.installed
	@echo "Collecting the wheels of the deployment package into .local/wheels"
	@$(BIN)/python -m ops wheels && touch $@/.

.venv-cloud/.installed: requirements-cloud.txt
	@echo "Installing the local cloud into .venv-cloud (half a minute, once)"
	@$(PYTHON) -m venv .venv-cloud
	@.venv-cloud/bin/pip install --quiet --disable-pip-version-check -r requirements-cloud.txt $(quietly)
	@touch $@

run: setup  ## Simulate sensors against a local cloud and report moving averages into out/
	@$(BIN)/python -m localcloud run

demo: setup  ## Keep sensors, schedule and dashboard running in a local cloud, until Ctrl-C
	@$(BIN)/python -m localcloud demo

cloud: setup  ## Start the local cloud with the app deployed, until Ctrl-C
	@$(BIN)/python -m localcloud cloud

local: setup  ## Serve the routes on port 8000 against a running `make cloud`
	@$(BIN)/python -m localcloud local

token: setup  ## Mint a bearer token for SUBJECT (optional: LOCATION, SCOPE, DAYS, STAGE)
	@$(BIN)/python -m ops token --stage $(or $(STAGE),dev) --subject "$(SUBJECT)" \
		$(addprefix --location ,$(LOCATION)) $(addprefix --scope ,$(SCOPE)) $(addprefix --days ,$(DAYS))

lint: setup .venv-checkov/.installed  ## Check style, types, import rules, dead code, sizes, dependencies, and Terraform
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/vulture
	@$(BIN)/python .ci/sizes.py
	@# Its parser warns of the folder of wheels that requirements.txt names.
	@$(BIN)/python -W ignore -m deptry .
	@$(BIN)/python .ci/terraform.py

audit: setup  ## Check the packaged dependencies for known vulnerabilities, where their list can be reached
	@if $(BIN)/python -c 'import urllib.request as r; r.urlopen("https://pypi.org/pypi/pip/json", timeout=10)' 2> /dev/null; \
	then $(BIN)/pip-audit --requirement requirements.txt; \
	else echo "audit skipped: the list of vulnerabilities at pypi.org cannot be reached"; fi

mutants: setup  ## Change the domain and the protocol in every small way, and list the changes that no test notices
	@$(BIN)/mutmut run; $(BIN)/mutmut results

.venv-checkov/.installed: requirements-checkov.txt
	@echo "Installing checkov into .venv-checkov (half a minute, once)"
	@$(PYTHON) -m venv .venv-checkov
	@.venv-checkov/bin/pip install --quiet --disable-pip-version-check -r requirements-checkov.txt $(quietly)
	@touch $@

# Tests start many processes, each of which would compile the same modules again.
unit test-fast test: export PYTHONDONTWRITEBYTECODE =
unit: setup  ## Run the unit tests, in seconds
	@$(BIN)/pytest -n 4 tests/unit

test-fast: setup  ## Run all tests but the end-to-end ones
	@$(BIN)/pytest -n 4 --dist loadgroup tests/unit tests/functional tests/infra

test: setup  ## Run all tests: unit, functional, infra, e2e
	@# With -rs, what is skipped is named with its reason.
	@$(BIN)/pytest -n 4 --dist loadgroup -rs

bench: setup  ## Measure what a reading costs, its price, the simulator, and the analytics of a million measurements
	@$(BIN)/python benchmarks/ingest.py --json
	@$(BIN)/python benchmarks/cost.py --json
	@$(BIN)/python benchmarks/simulator.py --json
	@$(BIN)/python benchmarks/analytics.py --rows $(or $(ROWS),1000000) --json

package: setup  ## Build the deployment package of STAGE (default dev) into .local/package
	@AWS_DEFAULT_REGION=$${AWS_DEFAULT_REGION:-us-east-1} $(BIN)/chalice package --stage $(or $(STAGE),dev) .local/package

plan: setup  ## Show what deploying STAGE would change, and write the plan to .local/
	@$(BIN)/python -m ops plan $(STAGE)

deploy: setup  ## Deploy STAGE: its resources, then the application (PLAN=file applies a plan unasked)
	@$(BIN)/python -m ops deploy $(STAGE) $(if $(PLAN),--plan $(PLAN))

destroy: setup  ## Remove STAGE from the account, which dev alone allows
	@$(BIN)/python -m ops destroy $(STAGE)

triage: setup  ## Build the ZIP of the function for dead letters
	@$(BIN)/python -m ops triage

clean:  ## Remove everything that is not in the repository
	rm -rf .venv .venv-cloud .venv-checkov .local out mutants .pytest_cache .mypy_cache .ruff_cache .hypothesis

.PHONY: help setup run demo cloud local token lint audit mutants unit test-fast test bench package plan deploy destroy triage clean
