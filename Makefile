# make demo    set up and run the main job on the embedded network
# make test    set up and run the tests
# make help    all targets
PYTHON ?= python3
PIP_ARGS ?=
MINUTES ?= 60
SEED ?= 1
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) -c constraints.txt

.PHONY: help demo test test-long fuzz check docs bench bench-layers clean
.DEFAULT_GOAL := help

help:
	@echo "make demo       bounds for a layer of the embedded network: table, plot and JSON in results/"
	@echo "make test       the tests (under ten minutes)"
	@echo "make test-long  the full counts: 10,000 random problems against brute force, and more"
	@echo "make fuzz       random and adversarial problems against exact arithmetic: MINUTES=60 SEED=1"
	@echo "make check      ruff, mypy, and the documentation without a warning"
	@echo "make docs       the documentation as a site, to be read from a disk: site/index.html"
	@echo "make bench      the benchmarks (about twenty minutes)"
	@echo "make clean      remove .venv, caches and results"
	@echo "A GPU build of PyTorch is large; to get the CPU one, give pip its index:"
	@echo "  make demo PIP_ARGS='--index-url URL-OF-A-CPU-INDEX'"

.venv/created:
	$(PYTHON) -c 'import sys; sys.exit("pvqbounds needs Python 3.11 or newer, not " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv
	$(PIP) torch
	@touch $@

.venv/demo-ready: .venv/created pyproject.toml constraints.txt
	$(PIP) -e '.[demo]'
	$(BIN)/python -m pvqbounds.solving.compiling
	@touch $@

.venv/test-ready: .venv/created pyproject.toml constraints.txt
	$(PIP) -e '.[test]'
	@touch $@

.venv/docs-ready: .venv/created pyproject.toml constraints.txt
	$(PIP) -e '.[docs]'
	@touch $@

demo: .venv/demo-ready
	@mkdir -p results
	$(BIN)/pvqbounds layer --json results/demo.json --plot results/demo.png
	$(BIN)/pvqbounds verify results/demo.json

test: .venv/test-ready
	$(BIN)/python -m pytest -n auto -m "not long"

test-long: .venv/test-ready
	$(BIN)/python -m pytest -n auto -m long

fuzz: .venv/test-ready
	$(BIN)/python -m tests.fuzz --minutes $(MINUTES) --seed $(SEED)

check: .venv/test-ready docs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: .venv/docs-ready
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

bench: .venv/test-ready
	-$(BIN)/python benchmarks/exact.py
	-$(BIN)/python benchmarks/backends.py
	-$(BIN)/python benchmarks/studies.py

bench-layers: .venv/test-ready
	-$(BIN)/python benchmarks/relaxation.py
	-$(BIN)/python benchmarks/codes.py
	-$(BIN)/python benchmarks/pruning_relaxation.py

clean:
	rm -rf .venv site .mypy_cache .ruff_cache .pytest_cache results
