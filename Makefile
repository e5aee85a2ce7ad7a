# What a developer types; ci/run does the same for a machine. `make` alone prints this list.
SHELL := /bin/bash
PYTHON ?= python3
VENV ?= .venv
.DEFAULT_GOAL := help
.PHONY: help demo test lint types debug asan bench man completion clean

help:  ## print this list
	@sed -nE 's/^([a-z]+):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

$(VENV)/installed: pyproject.toml setup.py $(shell find nlbcore cli bench/nlbbench -name '*.py' -o -name '*.pyx' -o -name '*.pxd' -o -name '*.pyi')
	@echo "installing into $(VENV): a minute or two"
	test -x $(VENV)/bin/pip || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check ".[test]"
	touch $@

# The linters of pyproject.toml, without building the package again for them.
$(VENV)/linters: $(VENV)/installed
	$(VENV)/bin/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["lint"], sep="\n")' \
		| $(VENV)/bin/pip install --quiet --disable-pip-version-check --requirement /dev/stdin
	touch $@

demo: $(VENV)/installed  ## nlb demo: mutual TLS on this machine, until Ctrl-C; ARGS="--port 9443" for its options
	@$(VENV)/bin/nlb demo $(ARGS)

test: $(VENV)/installed  ## install into .venv and run the whole suite against it
	$(VENV)/bin/pytest -n 2 $(ARGS)

lint: $(VENV)/linters  ## ruff, cython-lint, layers, Cython's performance hints, the option reference
	VENV=$(VENV) bash ci/run lint

types: $(VENV)/linters  ## mypy strict, and the stubs against the compiled modules
	VENV=$(VENV) bash ci/run types

debug:  ## the debug build (bounds checks, assertions) in .venv-debug, and the tests of compiled code on it
	bash ci/run debug

asan:  ## the same under the address and undefined-behaviour sanitizers, in .venv-asan
	bash ci/run asan

bench: $(VENV)/installed  ## nlb beside HAProxy, nginx, Hitch and stunnel: twelve minutes, the report into bench/results
	$(VENV)/bin/nlb bench compare --full --out bench/results $(ARGS)

man: $(VENV)/installed  ## the manual pages, into build/man
	$(VENV)/bin/python ci/manual.py man build/man

completion: $(VENV)/installed  ## completion for bash, zsh and fish, into build/completion
	$(VENV)/bin/python ci/manual.py completion build/completion

clean:  ## remove builds, environments and caches
	rm -rf build dist $(VENV) .venv-debug .venv-asan *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find nlbcore cli tests bench ci -name '*.so' -delete -o -name __pycache__ -prune -exec rm -rf {} +
