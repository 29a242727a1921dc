PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: install check test serve train bundle bench

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

# The shipped bundle anew, into runs/bundle, from the FER+ folders and MediaPipe's model, with seed 0:
# make bundle FERPLUS=folder TEACHER=face_landmarker.task. Hours on two cores; the same command goes on where it stopped.
STAGES := 1_pooled_56 2_pooled_56 3_pooled_56 4_ddamfn_112 5_ddamfn_112 6_ddamfn_112 7_local_112
PREPARED := data/ferplus-112
TERMS := FER+ votes: MIT. FER2013 images: gathered by web search, no licence of their photographers; none are shipped.
EXPORT = $(BIN)/python -m training.export --run runs/ferplus-7 --name ferplus-ddamfn --version 5 --licence Apache-2.0 \
	--data-terms "$(TERMS)"

bundle: $(STAMP)
	test -d $(PREPARED) || $(BIN)/python -m training.prepare --dataset ferplus --root $(FERPLUS) --out $(PREPARED) \
		--min-confidence 0.3 --teacher $(TEACHER)
	for stage in $(STAGES); do \
		$(BIN)/python -m training.train --config training/configs/ferplus_$$stage.toml --run runs/ferplus-$${stage%%_*} \
			$(TRAIN_OPTIONS) || exit 1; \
	done
	$(BIN)/python -m training.calibrate --run runs/ferplus-7 --prepared $(PREPARED)
	rm -rf runs/unmeasured runs/bundle
	$(EXPORT) --out runs/unmeasured
	$(BIN)/python -m training.evaluate --model runs/unmeasured --prepared $(PREPARED) --out runs/quality.json \
		--plots runs/plots
	$(EXPORT) --out runs/bundle --quality runs/quality.json
	rm -r runs/unmeasured

# One markdown file of figures; OUT is its folder, and BENCH_FLAGS=--quick only shows that all of them run.
OUT ?= bench-results
bench: $(STAMP)
	$(BIN)/python -m benchmarks --out $(OUT) $(BENCH_FLAGS)
