# Every target sets up what it needs: a virtual environment with pinned dependencies.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
CORES ?= 2
STAMP := $(VENV)/.installed
# The jobs of the workflow call `python`: the one of the virtual environment.
export PATH := $(abspath $(BIN)):$(PATH)

.PHONY: help setup reproduce test check bench clean
help:            ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

setup: $(STAMP)  ## install into .venv

$(STAMP): requirements.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	python -m pip install --quiet --disable-pip-version-check --requirement requirements.txt
	python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

reproduce: setup ## run the whole demo study; ends with the claims and results/demo/report.html
	snakemake --cores $(CORES) --quiet rules
	@python -m pldrepro show results/demo/claims.csv
	@echo "report: results/demo/report.html"

test: setup      ## run the tests
	python -m pytest

check: setup     ## lint, types, workflow format
	ruff check .
	ruff format --check .
	mypy
	snakefmt --check Snakefile workflow
	snakemake --lint

bench: setup     ## measure the speed of the model; writes results/bench
	python -m benchmarks.model_speed

clean:           ## remove the demo's results
	rm -rf results/demo
