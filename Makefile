# Two commands are all a newcomer needs: `make demo` and `make test`. Both build .venv first.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
PAIR ?= smollm2
BENCHES ?= coding serve exact verify gate scan vault plan fleet console
TORCH := torch==2.13.0

BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq
NATIVE := $(wildcard src/tidegate/_native/*.c src/tidegate/_native/*.h src/tidegate/_native/*.py)

# Idle OpenMP threads that spin cost torch most of its speed on few cores.
export OMP_WAIT_POLICY := PASSIVE

.PHONY: help venv demo test lint bench docs clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-7s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: venv ## Send real prompts through the link, end with a table and an HTML report; PAIR=qwen for the real pair
	@$(BIN)/tidegate demo --pair $(PAIR)

test: venv ## Run every test, on one torch thread
	@OMP_NUM_THREADS=1 $(BIN)/pytest

lint: venv ## Check style, types, which room imports which, and the Helm chart
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --quiet --check .
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/python tools/chart.py check

bench: venv ## Measure every figure beside its target (hours; BENCHES="vault plan" for some); results in out/
	@mkdir -p out; worst=0; \
	for name in $(BENCHES); do \
	  $(BIN)/tidegate bench $$name --json > out/bench-$$name.json || worst=$$(( $$? > worst ? $$? : worst )); \
	  cat out/bench-$$name.json; \
	done; exit $$worst

docs: venv ## Renew what is generated: the zone table, the --help texts, the chart's schema, the matrix of engines
	@$(BIN)/python tools/zone_table.py --write
	@$(BIN)/python tools/help_blocks.py --write
	@$(BIN)/python tools/chart_schema.py --write
	@$(BIN)/python tools/engine_matrix.py --write

venv: .venv/.project ## Build .venv with pinned packages and the C kernels (the other targets do it too)

clean: ## Remove .venv and everything that was built
	rm -rf .venv build out .mypy_cache .ruff_cache .hypothesis .import_linter_cache src/*.egg-info
	rm -f src/tidegate/_native/_kernels.* src/tidegate/_native/_exact.* src/tidegate/_native/_scan.*

.venv/.packages: requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit("Tidegate needs Python 3.11 or later; set PYTHON=" if sys.version_info < (3, 11) else 0)'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "installing $(TORCH) (the largest package; some minutes on a slow line)"
	@$(PIP) install $(TORCH)
	@echo "installing the pinned packages"
	@$(PIP) install -r requirements.lock
	@touch $@

.venv/.project: .venv/.packages pyproject.toml setup.py $(NATIVE)
	@echo "building the C kernels and installing tidegate into .venv"
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@
