# Verbs of this project; `make` alone lists them. Everything runs in ./.venv, made by `make setup`.
#   PYTHON=python3.12     the interpreter the environment is made with (3.11, 3.12 or 3.13)
#   TORCH_ARGS="..."      more arguments for the installation of torch, such as another index
.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup book serve reproduce test test-fast test-slurm fuzz lint types format unit smoke nbval site bench clean

VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PROFILE ?= laptop
PAPER ?= dg_vae
JOBS ?= 2
SECONDS := $(or $(SECONDS),60)
TORCH_ARGS ?=
SUPPORTED := (3, 11) <= sys.version_info[:2] <= (3, 13)
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(not $(SUPPORTED))' 2>/dev/null && echo $$p && break; done)

export PIP_DISABLE_PIP_VERSION_CHECK := 1
SMOKE := $(CURDIR)/_build/smoke
# Tests keep to their own store and to one thread a process.
TEST_ENV := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 VAELIB_STORE=$(SMOKE)/runs \
	VAELIB_RESULTS=$(CURDIR)/results
PYTEST := $(TEST_ENV) $(BIN)/python -m pytest
REPORTS := _build/tests

help:  ## list these verbs
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY)  ## make .venv and install the pinned packages (again only when they changed)

$(READY): pyproject.toml $(wildcard constraints/*.txt)
	@test -n "$(PYTHON)" || { echo "make: no Python 3.11, 3.12 or 3.13 found; install one," \
		"or name yours: make setup PYTHON=/path/to/python3.11" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(not $(SUPPORTED))' || { echo "make: $(PYTHON) is" \
		"$$($(PYTHON) --version 2>&1); this project needs Python 3.11, 3.12 or 3.13:" \
		"make setup PYTHON=python3.11" >&2; exit 1; }
	@test -x $(BIN)/pip || { echo "==> making $(VENV) with $(PYTHON)"; "$(PYTHON)" -m venv $(VENV); }
	@lock=constraints/py$$($(BIN)/python -c 'import sys; print("%d%d" % sys.version_info[:2])').txt; \
	test -f $$lock || { echo "make: $(VENV) has an unsupported Python; remove it first" >&2; exit 1; }; \
	echo "==> installing torch, then the rest, as pinned in $$lock" && \
	$(BIN)/python -m pip install -c $$lock $(TORCH_ARGS) torch && \
	$(BIN)/python -m pip install -c $$lock -e '.[book,test]'
	@touch $@

book: setup  ## build the book (PROFILE=laptop); trains what is missing, ends with its address
	@$(BIN)/vaelib book build --profile $(PROFILE)

serve: setup  ## serve the built book on this machine
	@$(BIN)/vaelib book serve --profile $(PROFILE)

# The committed records are left aside, so every run is made anew; stopped, it goes on where it was.
reproduce: setup  ## recompute the laptop records of a paper from nothing (PAPER=dg_vae JOBS=2)
	@VAELIB_STORE=$(CURDIR)/reproduced/runs VAELIB_RESULTS=$(CURDIR)/reproduced/none \
		$(BIN)/vaelib study $(PAPER) --profile laptop --jobs $(JOBS)

test: setup lint unit smoke nbval site  ## everything: lint, tests, notebooks, book, browser

test-fast: setup  ## the tests that take seconds
	@$(PYTEST) -n 2 -m "not slow and not gpu" --ignore=tests/test_site.py

# Needs Debian's slurm-wlm (or munge, slurmctld and slurmd) and no right beyond a user's.
test-slurm: setup  ## run a small study through a real Slurm, on a node made for it
	@$(BIN)/python -m pip install -q -c "$$(ls constraints/py$$($(BIN)/python -c \
		'import sys; print("%d%d" % sys.version_info[:2])').txt)" dask-jobqueue
	@$(PYTEST) tests/test_slurm.py -m slurm

# Needs a wheel of atheris for this Python. Libraries of its own, so that the pinned ones stay.
fuzz: setup  ## grow bad inputs of every parser by coverage (SECONDS=60 each)
	@$(BIN)/python -m pip install -q --no-deps --target _build/atheris atheris==3.0.0
	@$(TEST_ENV) PYTHONPATH=_build/atheris:tests $(BIN)/python tests/fuzz_coverage.py $(SECONDS)

lint: setup  ## check the style
	@echo "==> style"
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: setup  ## check the types (advice; not part of `make test`)
	@$(BIN)/mypy

format: setup  ## rewrite the code in the project's style
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

unit: setup
	@echo "==> unit, property and contract tests"
	@$(PYTEST) -n 2 --ignore=tests/test_site.py --junitxml=$(REPORTS)/unit.xml

smoke: setup
	@echo "==> all notebooks at the smoke profile, two at a time, and the book from clean"
	@$(TEST_ENV) $(BIN)/vaelib book build --profile smoke --force

nbval: setup
	@echo "==> the tagged outputs of the executed notebooks"
	@$(PYTEST) --nbval-lax -n 2 --dist loadfile -o filterwarnings=default \
		--junitxml=$(REPORTS)/nbval.xml $(SMOKE)/executed/*.ipynb

site: setup
	@echo "==> the built book in a headless browser"
	@VAELIB_SITE=$(SMOKE)/html $(PYTEST) tests/test_site.py --junitxml=$(REPORTS)/site.xml

bench: setup  ## time every fast path beside its plain version
	@$(BIN)/python -m pytest bench/bench_*.py -q \
		--benchmark-columns=median,iqr,rounds --ratios $(or $(RATIOS),_build/ratios.json)

clean:  ## remove what is built (not .venv, runs/ and reproduced/)
	rm -rf _build .pytest_cache .ruff_cache .mypy_cache .hypothesis
