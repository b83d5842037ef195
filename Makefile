# Builds, tests and demonstrates idspn-jax. Needs Python 3.11+ and make.
#
#   make test PYTHON=python3.12       another interpreter (after make clean)
#   make test PYTEST_ARGS='-k fspool -n 0'     options for pytest
#   make test JAX_PLATFORMS=cuda,cpu EXTRAS=cuda,lap,test     on a GPU
#   make notebooks NOTEBOOKS='02 04'           those whose names begin so

PYTHON ?= python3
VENV ?= .venv
EXTRAS ?= docs,lap,notebooks,test
# More requirements for pip, to narrow the versions in setup.cfg.
PINS ?=
# One worker per core, each file on one of them, so that what a file's tests share
# is made once; options such as '-k fspool -n 0' replace this.
PYTEST_ARGS ?= -n auto --dist loadfile
# Versions of `make test-matrix`.
MATRIX ?= 3.11 3.12 3.13
DEMO_ARGS ?=
NOTEBOOKS ?=
COMPARE_ARGS ?=
JAX_PLATFORMS ?= cpu
MPLBACKEND ?= Agg

BIN := $(VENV)/bin
VERSION := $(shell sed -n "s/^__version__ = '\(.*\)'$$/\1/p" \
  idspn_jax/__init__.py)
WHEEL := dist/idspn_jax-$(VERSION)-py3-none-any.whl
STAGING := build/staging
# What tests may read. Not idspn_jax: they test the installed wheel.
STAGED := $(wildcard tests experiments configs docs results pyproject.toml \
  setup.cfg README.md CHANGELOG.md CITATION.cff CONTRIBUTING.md)

# Prints the first working Python $(1): on the path, else one of pyenv's.
find-python = $(shell \
  for python in python$(1) $(HOME)/.pyenv/versions/$(1).*/bin/python; do \
    if "$$python" -c 'import sys; \
      sys.exit("%d.%d" % sys.version_info[:2] != "$(1)")' 2>/dev/null; \
    then echo "$$python"; break; fi; \
  done)

# Tests on Python $(1), the oldest one with the oldest jax, and notes a failure.
test-on = $(if $(call find-python,$(1)), \
  $(MAKE) --no-print-directory test VENV=.venv-$(1) \
    PYTHON='$(call find-python,$(1))' \
    $(if $(filter 3.11,$(1)),PINS='jax==0.10.*'), \
  { echo 'error: no Python $(1)' >&2; false; }) || failed="$$failed $(1)";

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.SUFFIXES:
.PHONY: help setup demo compare test test-all test-matrix docs notebooks \
  lint format wheel clean FORCE

help:  ## Shows this list
	@echo 'Targets:'
	@sed -n 's/^\([a-z-]*\):.*  ## \(.*\)/\1|\2/p' Makefile \
	  | awk -F '|' '{ printf "  %-12s %s\n", $$1, $$2 }'

setup: $(VENV)/.stamp-wheel  ## Makes .venv with the built wheel and all tools
	@echo "Ready: $$($(BIN)/python -V) in $(VENV)"

demo: setup  ## Sets up, then trains and shows a small model
	$(BIN)/python -m experiments.demo --workdir=runs/demo $(DEMO_ARGS)

# Tests compile the same small programs again and again: compiled ones are kept
# for as long as the copied tests are. Each worker computes on one thread. Most
# programs take longer to compile than to run: on CPUs, `test` compiles with few
# optimizations (a third less CPU time), and `test-all` as users do.
FEW_OPTIMIZATIONS = $(if $(filter cpu,$(JAX_PLATFORMS)),1,0)
TEST_SPEED = NPROC=1 \
  JAX_DISABLE_MOST_OPTIMIZATIONS=$(FEW_OPTIMIZATIONS) \
  JAX_COMPILATION_CACHE_DIR=$(abspath $(STAGING))/.compiled \
  JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=0

compare: setup  ## Compares exact with approximate gradients (minutes)
	$(BIN)/python -m experiments.compare_gradients \
	  --pretrained=multisets_n4_d4 --curves=results/gradients \
	  --out=runs/compare $(COMPARE_ARGS)

test: setup  ## Tests the installed wheel
	@rm -rf $(STAGING)
	@mkdir -p $(STAGING)
	@cp -R $(STAGED) $(STAGING)
	@find $(STAGING) -name __pycache__ -prune -exec rm -rf {} +
	@$(BIN)/python -c 'import jax, platform; print( \
	  "Testing on Python", platform.python_version(), "jax", jax.__version__)'
	@cd $(STAGING) && env -u PYTHONPATH IDSPN_JAX_TEST_INSTALLED=1 \
	  MPLBACKEND=$(MPLBACKEND) JAX_PLATFORMS=$(JAX_PLATFORMS) \
	  $(TEST_SPEED) $(abspath $(BIN))/python -m pytest \
	  -o cache_dir=$(CURDIR)/.pytest_cache $(PYTEST_ARGS)

test-all: override PYTEST_ARGS := -m '' $(PYTEST_ARGS)
test-all: override FEW_OPTIMIZATIONS := 0
test-all: test  ## Tests as above, with the slower checks marked `deep`

# Every version is tested, whatever failed before it.
test-matrix:  ## Tests on Python 3.11 (jax 0.10), 3.12 and 3.13 (newest jax)
	@failed=; $(foreach version,$(MATRIX),$(call test-on,$(version))) \
	test -z "$$failed" || { echo "error: failed on Python:$$failed" >&2; exit 1; }

docs: setup  ## Builds the documentation into build/docs; warnings are errors
	@$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet \
	  docs build/docs
	@echo 'Open build/docs/index.html'

notebooks: setup  ## Executes the notebooks and stores them with their outputs
	@$(BIN)/python -m experiments.run_notebooks $(NOTEBOOKS)

lint: $(VENV)/.stamp-dependencies  ## Checks style and format
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

format: $(VENV)/.stamp-dependencies  ## Formats the code, sorts imports
	@$(BIN)/ruff check --select I --fix .
	@$(BIN)/ruff format .

wheel: $(WHEEL)  ## Builds the wheel into dist/
	@echo $(WHEEL)

clean:  ## Removes all that was built or installed here; keeps runs/
	rm -rf build dist *.egg-info .venv .venv-3.* .pytest_cache .ruff_cache
	find . -name __pycache__ -not -path './runs/*' -prune -exec rm -rf {} +

# Every stamp is written last, so that an interrupted step is done again.

$(VENV)/.stamp-python:
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  2>/dev/null || { echo "error: idspn-jax needs Python 3.11 or newer, but" \
	    "$(PYTHON) is $$("$(PYTHON)" -c 'import platform; \
	      print(platform.python_version())' 2>/dev/null || echo missing);" \
	    "name another: make PYTHON=python3.12" >&2; exit 1; }
	@echo "Creating $(VENV) ($$("$(PYTHON)" -V))"
	@"$(PYTHON)" -m venv --clear $(VENV)
	@$(BIN)/python -m pip install --quiet $$($(BIN)/python -c 'import tomllib; \
	  print(*tomllib.load(open("pyproject.toml", "rb")) \
	  ["build-system"]["requires"])')
	@touch $@

# What the wheel packs. The list changes, and with it its date, when a file
# appears or goes away.
PACKED = find idspn_jax -type f \
  \( -name '*.py' -o -name '*.npz' -o -name '*.csv' \)
build/sources: FORCE
	@mkdir -p build
	@$(PACKED) | sort > $@.new
	@if cmp -s $@.new $@; then rm $@.new; else mv $@.new $@; fi

$(WHEEL): build/sources setup.cfg pyproject.toml LICENSE $(wildcard README.md) \
  idspn_jax/py.typed $(shell $(PACKED)) \
  | $(VENV)/.stamp-python
	@test -n '$(VERSION)' || { \
	  echo 'error: no __version__ in idspn_jax/__init__.py' >&2; exit 1; }
	@echo 'Building $(WHEEL)'
	@rm -rf build/lib build/bdist.* build/wheel idspn_jax.egg-info \
	  dist/idspn_jax-*.whl
	@mkdir -p dist
	@$(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation \
	  --wheel-dir build/wheel .
	@mv build/wheel/*.whl $@
	@touch $@

$(VENV)/.stamp-dependencies: setup.cfg $(VENV)/.stamp-python | $(WHEEL)
	@echo 'Installing dependencies (several minutes the first time)'
	@$(BIN)/python -m pip install --quiet '$(WHEEL)[$(EXTRAS)]' $(PINS)
	@touch $@

$(VENV)/.stamp-wheel: $(WHEEL) $(VENV)/.stamp-dependencies
	@echo 'Installing $(WHEEL)'
	@$(BIN)/python -m pip install --quiet --no-deps --force-reinstall $(WHEEL)
	@touch $@
