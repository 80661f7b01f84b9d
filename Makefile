# Every target sets up what it needs on a fresh machine: Python >= 3.11 and make are enough to start.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.ready
# Whole files to each worker, in the order of tests/conftest.py.
PYTEST  = $(BIN)/python -m pytest -n $(or $(JOBS),2) --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help setup demo serve test check screenshots bench bench-intake bench-relay bench-page bench-api bench-find bench-soak bench-restart crash generated lock clean

help:            ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/' | expand -t 16

$(STAMP): requirements/dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Postroom needs Python 3.11 or newer; $(PYTHON) is older (set PYTHON=...)"; exit 1; }
	@test -x $(BIN)/python || { echo "creating $(VENV)"; $(PYTHON) -m venv $(VENV); }
	@echo "installing pinned requirements into $(VENV)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

setup: $(STAMP)  ## create .venv with pinned requirements

demo: $(STAMP)   ## a gateway with real-looking mail flowing, until Ctrl-C (SECONDS=n stops by itself)
	@$(BIN)/python -m postroom_demo $(if $(SECONDS),--seconds $(SECONDS))

serve: $(STAMP)  ## the gateway, with its data in ./data
	@$(BIN)/postroom serve --data data

test: $(STAMP)   ## every test, with the servers they need, on two cores (JOBS=n; 0 = in one process)
	@$(PYTEST)

generated: $(STAMP)  ## the tests of the HTTP side with TIMES=n as many generated cases, others each time
	@TIMES=$(or $(TIMES),20) $(PYTEST) tests/http

check: $(STAMP)  ## format, lint, types, house rules
	@$(BIN)/ruff format --check --quiet . || { echo "run: $(BIN)/ruff format ."; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy
	@$(BIN)/python -m pytest -q tests/test_house.py tests/test_architecture.py

screenshots: $(STAMP)  ## the pictures in docs/images, from a running demo; needs chromium and chromedriver (TO=dir)
	@$(BIN)/python -m tests.browser.screenshots $(TO)

bench: bench-intake bench-relay bench-page bench-api  ## every published figure

bench-intake: $(STAMP)  ## durable intake, Postroom and Postfix in turn
	@$(BIN)/python -m bench.intake

bench-relay: $(STAMP)   ## end to end, Postroom and Postfix in turn
	@$(BIN)/python -m bench.relay

bench-page: $(STAMP)    ## memory, and the first page of 100 at 100,000 queued
	@$(BIN)/python -m bench.page

bench-restart: $(STAMP) ## ready again with 1,000,000 queued, and the memory it takes (N=n)
	@$(BIN)/python -m bench.restart $(if $(N),--entries $(N))

bench-api: $(STAMP)     ## calls per second for a page of 25 of 100,000 entries, on one core
	@$(BIN)/python -m bench.api

bench-find: $(STAMP)    ## find and act among N entries with every request there is, beside Postfix's own tools (N=n)
	@$(BIN)/python -m bench.find $(if $(N),--entries $(N)) $(if $(DATA),--data $(DATA))

bench-soak: $(STAMP)    ## an hour at 200 messages a second, one try in ten deferred (MINUTES=n)
	@$(BIN)/python -m bench.soak $(if $(MINUTES),--minutes $(MINUTES))

crash: $(STAMP)  ## kill the gateway and cut its power, again and again (KILLS=n CUTS=n SEED=n)
	@$(BIN)/python -m tests.crash --kills $(or $(KILLS),200) --cuts $(or $(CUTS),200) $(if $(SEED),--seed $(SEED))

lock: $(STAMP)   ## pin the requirements anew (needs pip-tools)
	@for f in run dev; do $(BIN)/pip-compile -q --generate-hashes --allow-unsafe --strip-extras --no-emit-index-url --no-emit-trusted-host --no-emit-find-links --no-header -o requirements/$$f.txt requirements/$$f.in; done

clean:           ## remove .venv and everything generated
	@rm -rf $(VENV) demo-data bench-data .mypy_cache .ruff_cache .pytest_cache dist
