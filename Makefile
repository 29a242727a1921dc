PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: install check test serve train bench

# Every target creates the environment it needs; it is rebuilt when pyproject.toml changes.
install: $(STAMP)

$(STAMP): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[all]'
	touch $@

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

test: $(STAMP)
	$(BIN)/python -m pytest

serve: $(STAMP)
	$(BIN)/python -m service

# CONFIG and RUN choose what to train and where: make train CONFIG=training/configs/ferplus_1_pooled_56.toml RUN=runs/mine
train: $(STAMP)
	$(BIN)/python -m training.train --config $(CONFIG) --run $(RUN)

# One markdown file of figures; OUT is its folder, and BENCH_FLAGS=--quick only shows that all of them run.
OUT ?= bench-results
bench: $(STAMP)
	$(BIN)/python -m benchmarks --out $(OUT) $(BENCH_FLAGS)
