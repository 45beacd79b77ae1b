# Two commands on a fresh machine: `make demo` and `make test`. Both make .venv and install into it first.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# One process of tests for each core, and one thread in each, as helpers would wait for a core that another process has; a
# file's tests stay together, as they share fixtures, and files go in the order of their names: by their number of tests,
# whole runs would come last, one beside an idle core. ARGS="-n 0" uses one process.
TESTS := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n logical --dist loadfile --no-loadscope-reorder

.PHONY: demo demo-monitor demo-train test test-apps test-rest test-pythons quick chaos fleet bench scores docs lint s3 weights clean help

help:  ## what can be made
	@grep -E '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## /  make \1\t/'

$(STAMP): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is not installed; set PYTHON=python3"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

weights: $(STAMP)  ## fetch and convert the zoo's weights, checked by sha256
	$(BIN)/earthloom models add landwater flood cloudmask sr-x2 sr-x4

demo: $(STAMP)  ## map the Great Salt Lake from a Landsat scene
	$(BIN)/earthloom demo

demo-monitor: $(STAMP)  ## watch a lake's shore over three dates: cube, change, alerts, plot (two of the dates are made up)
	$(BIN)/python -m infra.demo_monitor

demo-train: $(STAMP)  ## train, judge, explain and run a small network on the demo's scene (3 minutes on 2 cores)
	$(BIN)/python -m infra.demo_train

quick: $(STAMP)  ## the tests of single modules, for the inner loop: two minutes, without Ray and S3
	$(TESTS) -m "not (apps or broad or chaos or gpu or long or ray or s3 or slow or zoo)" $(ARGS)

test: weights  ## all tests but those of more than ten seconds (ten minutes on 2 cores)
	$(TESTS) $(ARGS)

test-apps: weights  ## what others' programs make of our files: browser, QGIS, PDF (Debian's chromium, qgis, poppler-utils)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,apps,docs]'
	$(BIN)/python -c "from earthloom.jobs.page.libraries import add; add()"
	npm ci --prefix tests/apps/ol_stac --ignore-scripts --no-audit --no-fund --silent
	$(BIN)/python -m pytest -m apps $(ARGS)

test-rest: weights  ## the longer ones: whole chains, clusters, workers killed, the zoo
	$(TESTS) -m "(long or zoo) and not chaos" $(ARGS)

test-pythons:  ## what needs no torch, on each of Python 3.11, 3.12 and 3.13 that this machine has
	$(PYTHON) -m infra.pythons $(ARGS)

chaos: weights  ## break storage, workers and drivers in every way; then the tests that take minutes each (two hours)
	$(BIN)/python -m tests.chaos $(ARGS)
	$(TESTS) -m chaos

fleet: $(STAMP)  ## a night of a fleet: scenes that come, storage that fails, watchers and workers killed (ARGS="--scenes 300")
	$(BIN)/python -m tests.chaos.fleet $(ARGS)

bench: weights  ## measure memory, speed, overhead and other tilers (ARGS="NAME … --keep" for some of it; all takes hours)
	$(BIN)/python -m tests.bench $(ARGS)

scores: weights  ## measure how good the models are, on the real scenes of EARTHLOOM_DATA (an hour)
	$(BIN)/python -m tests.bench.scores $(ARGS)

# Tools that follow folders, not imports, see the packages where a wheel puts them: inside `earthloom`.
LINT_ROOT := build/lint

lint: $(STAMP)  ## format, lint, types and import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	@rm -rf $(LINT_ROOT) && mkdir -p $(LINT_ROOT)/earthloom
	@ln -s $(CURDIR)/earthloom/*.py $(CURDIR)/jobs $(CURDIR)/models $(CURDIR)/tiling $(CURDIR)/cluster $(LINT_ROOT)/earthloom/
	@ln -s $(CURDIR)/infra $(CURDIR)/tests $(LINT_ROOT)/
	cd $(LINT_ROOT) && $(abspath $(BIN))/mypy --config-file $(CURDIR)/pyproject.toml --cache-dir $(CURDIR)/.mypy_cache
	cd $(LINT_ROOT) && $(abspath $(BIN))/lint-imports --config $(CURDIR)/pyproject.toml

docs: $(STAMP)  ## the docs as a site in build/site; a link that leads nowhere fails it
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,docs]'
	$(BIN)/zensical build --strict

s3: $(STAMP)  ## a real S3 server on this machine, for trying s3:// by hand
	$(BIN)/python -m infra.s3_server

clean:  ## forget the environment and all caches of tools
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis demo-output bench-output
