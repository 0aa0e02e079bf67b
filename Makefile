# Everything runs in a virtual environment of its own, made on first use.
# Another PyTorch build (CUDA, ROCm): put it into the environment first, or set TORCH_INDEX.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
SPEC ?= specs/18.abl
TORCH_INDEX ?=

INSTALL = $(BIN)/pip install --quiet --constraint constraints.txt $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))

# A file's tests share what they have made ready, so a file stays in one process.
PARALLEL = -n auto --maxprocesses 4 --dist loadfile

.PHONY: run test quick lint docs clean

run: $(VENV)/.installed  ## train a spec: make run SPEC=specs/18.abl
	$(BIN)/ablc run $(SPEC)

test: $(VENV)/.installed-dev  ## every test
	$(BIN)/python -m pytest $(PARALLEL)

quick: $(VENV)/.installed-dev  ## the fast tests
	$(BIN)/python -m pytest $(PARALLEL) -m "not slow"

lint: $(VENV)/.installed-dev  ## style, types, layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(VENV)/.installed-dev  ## write the generated pages again
	$(BIN)/python docs/generate.py

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(VENV)/bin/python pyproject.toml constraints.txt
	$(INSTALL) --editable .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(INSTALL) --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis dist
