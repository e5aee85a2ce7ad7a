# What a developer types; ci/run does the same for a machine. `make` alone prints this list.
SHELL := /bin/bash
PYTHON ?= python3
VENV ?= .venv
.DEFAULT_GOAL := help
.PHONY: help demo test lint types debug asan bench clean

help:  ## print this list
	@sed -nE 's/^([a-z]+):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

$(VENV)/installed: pyproject.toml setup.py $(shell find nlbcore cli -name '*.py' -o -name '*.pyx' -o -name '*.pxd' -o -name '*.pyi')
	test -x $(VENV)/bin/pip || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check ".[test,lint]"
	touch $@

demo: $(VENV)/installed  ## certificates, two servers, the balancer, curl: the main job in ten seconds
	bash ci/demo $(VENV)/bin

test: $(VENV)/installed  ## install into .venv and run the whole suite against it
	$(VENV)/bin/pytest -n 2

lint: $(VENV)/installed  ## ruff, cython-lint, layers, Cython's performance hints, the option reference
	VENV=$(VENV) bash ci/run lint

types: $(VENV)/installed  ## mypy strict, and the stubs against the compiled modules
	VENV=$(VENV) bash ci/run types

debug:  ## the debug build (bounds checks, assertions) in .venv-debug, and the tests of compiled code on it
	bash ci/run debug

asan:  ## the same under the address and undefined-behaviour sanitizers, in .venv-asan
	bash ci/run asan

bench: $(VENV)/installed  ## handshakes and bytes per CPU second beside HAProxy and nginx
	$(VENV)/bin/python bench/first_light.py

clean:  ## remove builds, environments and caches
	rm -rf build dist $(VENV) .venv-debug .venv-asan *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find nlbcore cli tests bench ci -name '*.so' -delete -o -name __pycache__ -prune -exec rm -rf {} +
