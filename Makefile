# Every target sets up what it needs: a virtual environment with pinned dependencies.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
CORES ?= 2
STAMP := $(VENV)/.installed

.PHONY: help setup reproduce test check bench clean
help:            ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

setup: $(STAMP)  ## install into .venv

$(STAMP): requirements.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

reproduce: setup ## run the whole demo study; ends with the claims and results/demo/report.html
	$(BIN)/snakemake --cores $(CORES) --quiet rules
	@$(BIN)/python -m pldrepro claims --show results/demo/claims.csv
	@echo "report: results/demo/report.html"

test: setup      ## run the tests
	$(BIN)/python -m pytest

check: setup     ## lint, types, workflow format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/snakemake --lint

bench: setup     ## measure the speed of the model; writes results/bench
	$(BIN)/python -m benchmarks.model_speed

clean:           ## remove the demo's results
	rm -rf results/demo
