# Every target sets up what it needs: a virtual environment with pinned dependencies.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
CORES ?= 2
# The sets of config/recorded.yaml, in the order in which docs/results.md shows them.
RECORDED := generated simple deep images
STAMP := $(VENV)/.installed
PIP := -m pip install --quiet --disable-pip-version-check
# Which build of torch, and which further packages it needs, depends on the machine: so it is the one that is not in the lock file.
TORCH := torch==2.13.0
TOOLS := $(VENV)/tools
DOCS := $(VENV)/docs
# The jobs of the workflow call `python`: the one of the virtual environment.
export PATH := $(abspath $(BIN)):$(PATH)

.PHONY: help setup reproduce test test-faults test-cluster results-page check lock audit bench docs clean
help:            ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

setup: $(STAMP)  ## install into .venv, a few minutes

$(STAMP): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "pldrepro needs Python 3.11 or newer, this is %s: make setup PYTHON=python3.12" % sys.version.split()[0])'
	@echo 'installing into $(VENV): about 100 packages, with torch; a few minutes'
	$(PYTHON) -m venv --clear $(VENV)
	python $(PIP) --require-hashes --no-deps --requirement requirements.txt
	python $(PIP) $(TORCH)
	python $(PIP) --no-deps --no-build-isolation --editable .
	cp requirements.txt $@

reproduce: setup ## run the whole demo study, about 10 minutes; ends with the claims and results/demo/report.html
	@python -m pldrepro study unlock
	snakemake --cores $(CORES)
	@python -m pldrepro study claims results/demo/claims.csv
	@echo "report: results/demo/report.html"

test: setup      ## run the tests on all cores, 8 to 10 minutes on two
	python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder

test-faults: setup ## kill, stop and damage runs, and see that they end as undisturbed ones
	python -m pytest --numprocesses auto --dist loadfile tests/faults

test-cluster: setup ## run small studies on a Slurm of its own; needs root, and Debian's apt-get where Slurm is missing
	tests/cluster/slurm.sh run python -m pytest --numprocesses 3 --dist loadfile tests/cluster

check: setup     ## lint, types, workflow format
	ruff check .
	ruff format --check .
	mypy
	snakefmt --check Snakefile workflow
	snakemake --lint

lock:            ## write the hashes of requirements.txt again, after a change of its versions (needs a network)
	$(PYTHON) -m venv $(TOOLS)
	$(TOOLS)/bin/python $(PIP) uv
	grep -E '^[A-Za-z0-9]' requirements.txt | sed 's/ .*//' > $(TOOLS)/pins.txt
	$(TOOLS)/bin/uv pip compile --quiet --universal --python-version 3.11 --no-deps --generate-hashes --no-annotate \
		--no-header --output-file $(TOOLS)/hashes.txt $(TOOLS)/pins.txt
	grep '^#' requirements.txt | cat - $(TOOLS)/hashes.txt > $(TOOLS)/lock.txt
	mv $(TOOLS)/lock.txt requirements.txt

audit:           ## look for known vulnerabilities of the locked packages and of torch (needs a network)
	$(PYTHON) -m venv $(TOOLS)
	$(TOOLS)/bin/python $(PIP) pip-audit
	(grep -E '^[A-Za-z0-9]' requirements.txt | sed 's/ .*//'; echo '$(TORCH)') > $(TOOLS)/pins.txt
	@$(TOOLS)/bin/pip-audit --strict --no-deps --disable-pip --requirement $(TOOLS)/pins.txt > $(TOOLS)/audit.txt 2>&1 \
		|| { tail -n 20 $(TOOLS)/audit.txt; \
		grep -qE 'could not be audited|ConnectionError' $(TOOLS)/audit.txt \
			&& echo 'NOT AUDITED: the list of vulnerabilities could not be reached, or lacks a package (above)'; exit 1; }
	@tail -n 5 $(TOOLS)/audit.txt

bench: setup     ## measure the speed of the model; writes results/bench
	python -m benchmarks.model_speed

results-page: setup ## write docs/results.md, docs/reviews/, docs/finding_*.svg and README's table again, from the records
	snakemake --cores $(CORES) --quiet rules --configfile config/recorded.yaml -- tables claims reviews
	python -m pldrepro make page $(RECORDED:%=results/rebuilt/%) --out docs/results.md
	python -m pldrepro make readme $(patsubst %,results/rebuilt/%,$(wordlist 1,3,$(RECORDED)))
	for set in $(RECORDED); do cp results/rebuilt/$$set/reviews.md docs/reviews/$$set.md; done
	for set in $(wordlist 1,2,$(RECORDED)); do for kind in svg txt; do \
		cp results/rebuilt/$$set/figures/finding.$$kind docs/finding_$$set.$$kind || exit 1; done; done

docs:            ## build the documentation as a site, site/index.html
	$(PYTHON) -m venv $(DOCS)
	$(DOCS)/bin/python $(PIP) --no-deps --requirement docs/requirements.txt
	$(DOCS)/bin/python -m mkdocs build --strict --quiet
	@echo "site: site/index.html"

clean:           ## remove the demo's results
	rm -rf results/demo
