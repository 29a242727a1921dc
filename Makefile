PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: install check test serve train bundle bench

# Every target creates the virtual environment if it is missing, and updates it when pyproject.toml has changed.
# The extra `all` contains everything optional: service, OpenVINO, CLIP, MTCNN, tracing, training and development.
install: $(STAMP)

$(STAMP): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[all]'
	touch $@

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# Two processes, each with one thread: most tests would use a second core only now and then.
test: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile

serve: $(STAMP)
	$(BIN)/python -m service

# CONFIG is the configuration and RUN the folder of the run:
# make train CONFIG=training/configs/ferplus_1_pooled_56.toml RUN=runs/mine
train: $(STAMP)
	$(BIN)/python -m training.train --config $(CONFIG) --run $(RUN)

# Trains the included bundle again, into runs/bundle, from the FER+ folders and MediaPipe's model, with seed 0:
# make bundle FERPLUS=folder TEACHER=face_landmarker.task
# It takes hours on two cores; after an interruption the same command continues. RENDERED=folder, a prepared set of rendered
# faces, adds the limits of changes against a baseline, and what bears each action unit out.
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
	$(BIN)/python -m training.calibrate --run runs/ferplus-7 --prepared $(PREPARED) $(if $(RENDERED),--rest $(RENDERED))
	rm -rf runs/unmeasured runs/bundle
	$(EXPORT) --out runs/unmeasured
	$(BIN)/python -m training.evaluate --model runs/unmeasured --prepared $(PREPARED) --out runs/quality.json \
		--plots runs/plots
	$(if $(RENDERED),$(BIN)/python -m training.evaluate --model runs/unmeasured --prepared $(RENDERED) --out runs/rendered.json)
	$(EXPORT) --out runs/bundle --quality runs/quality.json $(if $(RENDERED),runs/rendered.json)
	rm -r runs/unmeasured

# Writes one markdown file of figures into the folder OUT; BENCH_FLAGS=--quick only shows that all parts run.
OUT ?= bench-results
bench: $(STAMP)
	$(BIN)/python -m benchmarks --out $(OUT) $(BENCH_FLAGS)
