# On a fresh machine, start with `make demo` or `make test`. Both first create .venv and install into it.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Tests run in one process per core, with one thread each: a second thread would wait for the core that another process has.
# Tests of one file stay in one process, because they share fixtures. Files are scheduled by
# name and not by their number of tests, which would put the longest files last, beside an idle core. ARGS="-n 0" uses one process.
TESTS := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n logical --dist loadfile --no-loadscope-reorder

.PHONY: demo demo-monitor demo-train test test-apps test-rest test-pythons quick chaos fleet bench scores docs lint s3 weights clean help

help:  ## list the targets
	@grep -E '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## /  make \1\t/'

$(STAMP): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is not installed; set PYTHON=python3"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

weights: $(STAMP)  ## fetch the zoo's weights, check their sha256 and convert them
	$(BIN)/earthloom models add landwater flood cloudmask sr-x2 sr-x4

demo: $(STAMP)  ## map the Great Salt Lake from a Landsat 7 scene
	$(BIN)/earthloom demo

demo-monitor: $(STAMP)  ## watch a lake's shore over three dates: cube, change, alerts, plot (two of the dates are synthetic)
	$(BIN)/python -m infra.demo_monitor

demo-train: $(STAMP)  ## train, evaluate, explain and run a small network on the demo's scene (3 minutes on 2 cores)
	$(BIN)/python -m infra.demo_train

quick: $(STAMP)  ## tests of single modules, for the inner loop: two minutes, without Ray and S3
	$(TESTS) -m "not (apps or broad or chaos or gpu or long or ray or s3 or slow or zoo)" $(ARGS)

test: weights  ## all tests except those of more than ten seconds (ten minutes on 2 idle cores)
	$(TESTS) $(ARGS)

test-apps: weights  ## tests with other programs: browser, QGIS, PDF (needs Debian's chromium, qgis, poppler-utils)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,apps,docs]'
	$(BIN)/python -c "from earthloom.jobs.page.libraries import add; add()"
	npm ci --prefix tests/apps/ol_stac --ignore-scripts --no-audit --no-fund --silent
	$(BIN)/python -m pytest -m apps $(ARGS)

test-rest: weights  ## longer tests: whole chains, clusters, killed workers, the zoo
	$(TESTS) -m "(long or zoo) and not chaos" $(ARGS)

test-pythons:  ## tests that need no torch, on each of Python 3.11, 3.12 and 3.13 that this machine has
	$(PYTHON) -m infra.pythons $(ARGS)

chaos: weights  ## break storage, workers and drivers in every way; then run the tests that take minutes each (two hours)
	$(BIN)/python -m tests.chaos $(ARGS)
	$(TESTS) -m chaos

fleet: $(STAMP)  ## simulate a night of operation: arriving scenes, failing storage, killed watchers and workers (ARGS="--scenes 300")
	$(BIN)/python -m tests.chaos.fleet $(ARGS)

bench: weights  ## measure memory, speed, overhead and other tilers (hours; ARGS="NAME … --keep" for some of it)
	$(BIN)/python -m tests.bench $(ARGS)

scores: weights  ## score the models on the real scenes of EARTHLOOM_DATA (an hour)
	$(BIN)/python -m tests.bench.scores $(ARGS)

# mypy and import-linter follow folders, not imports, so they see the packages where a wheel puts them: inside `earthloom`.
LINT_ROOT := build/lint

lint: $(STAMP)  ## format, lint, types and import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	@rm -rf $(LINT_ROOT) && mkdir -p $(LINT_ROOT)/earthloom
	@ln -s $(CURDIR)/earthloom/*.py $(CURDIR)/jobs $(CURDIR)/models $(CURDIR)/tiling $(CURDIR)/cluster $(LINT_ROOT)/earthloom/
	@ln -s $(CURDIR)/infra $(CURDIR)/tests $(LINT_ROOT)/
	cd $(LINT_ROOT) && $(abspath $(BIN))/mypy --config-file $(CURDIR)/pyproject.toml --cache-dir $(CURDIR)/.mypy_cache
	cd $(LINT_ROOT) && $(abspath $(BIN))/lint-imports --config $(CURDIR)/pyproject.toml

docs: $(STAMP)  ## build the docs as a site in build/site; a broken link is an error
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,docs]'
	$(BIN)/zensical build --strict

s3: $(STAMP)  ## start a real S3 server on this machine, to try s3:// by hand
	$(BIN)/python -m infra.s3_server

clean:  ## remove the environment and all tool caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis demo-output bench-output
