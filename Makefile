.DEFAULT_GOAL := help

BIN := .venv/bin
export PYTHON
# What is compiled once is not compiled again by every process that starts.
export PYTHONDONTWRITEBYTECODE :=
# Programs are modules of this folder, whatever the user's shell says of other Pythons.
export PYTHONSAFEPATH :=
export PYTHONHOME :=

help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup:  ## Install everything into .venv and .venv-cloud (PYTHON=path chooses the Python)
	@sh ops/setup.sh cloud

lock: setup  ## Renew the exact versions of everything that is installed, in requirements/
	@$(BIN)/python -m ops lock

run: setup  ## Simulate sensors against a local cloud and report moving averages into out/
	@$(BIN)/python -m localcloud run

demo: setup  ## Keep sensors, schedule and dashboard running in a local cloud, until Ctrl-C
	@$(BIN)/python -m localcloud demo

cloud: setup  ## Start the local cloud with the app deployed, until Ctrl-C
	@$(BIN)/python -m localcloud cloud

local: setup  ## Serve the routes on port 8000, or PORT, against a running `make cloud`
	@$(BIN)/python -m localcloud local $(addprefix --port ,$(PORT))

token: setup  ## Mint a bearer token for SUBJECT (optional: LOCATION, SCOPE, DAYS, STAGE)
	@$(BIN)/python -m ops token --stage $(or $(STAGE),dev) --subject "$(SUBJECT)" \
		$(addprefix --location ,$(LOCATION)) $(addprefix --scope ,$(SCOPE)) $(addprefix --days ,$(DAYS))

provision: setup  ## Make or change the sensors of FILE, a CSV (optional: STAGE, RESULTS, a CSV to be written)
	@$(BIN)/python -m ops provision --stage $(or $(STAGE),dev) $(addprefix --results ,$(RESULTS)) "$(FILE)"

sensors: setup  ## Write the sensors of LOCATION as such a CSV (optional: STAGE, OUTPUT, which is the file)
	@$(BIN)/python -m ops sensors $(or $(STAGE),dev) "$(LOCATION)" $(addprefix --output ,$(OUTPUT))

restore: setup  ## Land the good lines of KEY, a landing object in quarantine, again; without KEY: list (optional: STAGE)
	@$(BIN)/python -m ops restore --stage $(or $(STAGE),dev) $(KEY)

lint: setup  ## Check style, types, import rules, dead code, sizes, dependencies, and Terraform
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/vulture
	@$(BIN)/python .ci/sizes.py
	@# Its parser warns of the folder of wheels that requirements.txt names.
	@$(BIN)/python -W ignore -m deptry .
	@sh ops/setup.sh checkov
	@$(BIN)/python .ci/terraform.py

audit: setup  ## Check the packaged dependencies for known vulnerabilities, where their list can be reached
	@if $(BIN)/python -c 'import urllib.request as r; r.urlopen("https://pypi.org/pypi/pip/json", timeout=10)' 2> /dev/null; \
	then $(BIN)/pip-audit --disable-pip --require-hashes --requirement requirements/runtime.txt; \
	else echo "audit skipped: the list of vulnerabilities at pypi.org cannot be reached"; fi

mutants: setup  ## Change the domain and the protocol in every small way, and list the changes that no test notices
	@$(BIN)/mutmut run; $(BIN)/mutmut results

chaos: setup  ## Let the analytics live through a thousand random histories of faults (HISTORIES=n)
	@THERMONET_EXAMPLES=$(or $(HISTORIES),1000) $(BIN)/pytest tests/functional/test_analytics_state_machine.py

unit: setup  ## Run the unit tests, in seconds
	@$(BIN)/pytest -n 4 tests/unit

test-fast: setup  ## Run all tests but the end-to-end ones
	@$(BIN)/pytest -n 4 --dist loadgroup tests/unit tests/functional tests/infra

test: setup  ## Run all tests: unit, functional, infra, e2e
	@$(BIN)/pytest -n 4 --dist loadgroup

bench: setup  ## Measure what a reading costs, its price, the simulator, the archive, and the analytics of a million measurements
	@$(BIN)/python benchmarks/ingest.py --json
	@$(BIN)/python benchmarks/cost.py --json
	@$(BIN)/python benchmarks/simulator.py --json
	@$(BIN)/python benchmarks/archive.py --json
	@$(BIN)/python benchmarks/analytics.py --rows $(or $(ROWS),1000000) --json
	@$(BIN)/python benchmarks/year.py --runs $(or $(RUNS),240) --json

package: setup  ## Build the deployment package of STAGE (default dev), and print where it is
	@$(BIN)/python -m ops package $(or $(STAGE),dev)

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

.PHONY: help setup lock run demo cloud local token provision sensors restore lint audit mutants chaos unit test-fast test bench package plan deploy destroy triage clean
