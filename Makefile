PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SERVING := $(VENV)/.serving

.PHONY: install check test test-newest test-part serve train bundle bench constraints sbom

# Every target creates the virtual environment if it is missing, and updates it when pyproject.toml has changed; `serve`
# installs what serving needs, all others everything.
# The extra `all` contains everything optional: service, OpenVINO, CLIP, MTCNN, tracing, training and development.
install: $(STAMP)

# Where venv lacks a Debian package it leaves an environment without pip, which is completed here.
$(STAMP): pyproject.toml
	test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[all]'
	touch $@ $(SERVING)

# What serving on a CPU needs, which PyTorch is no part of.
$(SERVING): pyproject.toml
	test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	@echo "What serving needs is installed into $(VENV): about 900 MB, in some minutes."
	$(BIN)/python -m pip install --quiet --editable '.[serve]'
	touch $@

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# Two processes, each with one thread: most tests would use a second core only now and then. One that has run all of its
# tests takes half of the other's, so neither waits for a long file that comes last. Bytecode is kept
# even where the environment says otherwise: each of the many processes that tests start would compile the packages again.
test: $(STAMP)
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist worksteal

# A part of the tests with the newest Python, for which no wheel carries the face detector. It is called by its name or is
# one of pyenv's.
NEWEST := python3.13
test-newest:
	@for python in $(NEWEST) $(wildcard $(HOME)/.pyenv/versions/3.13.*/bin/$(NEWEST)); do \
		if $$python -c "" 2>/dev/null; then exec $(MAKE) test-part PYTHON=$$python VENV=.venv-newest; fi; \
	done; \
	echo "test-newest is skipped: this machine has no $(NEWEST)."

# Detectors, answers and the client, from the wheel's dependencies without PyTorch.
PART := tests/model_core/faces/test_detector_choice.py tests/model_core/faces/test_yunet.py \
	tests/service/test_included_weights.py tests/service/http/test_frames.py tests/service/http/test_videos.py \
	tests/service/http/test_jobs.py tests/client/test_live.py tests/client/test_requests.py \
	tests/client/test_videos.py tests/client/test_folder.py tests/client/test_real_service.py
test-part:
	test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet '.[serve,tables,plot,test]'
	rm -rf build
	cd / && $(abspath $(BIN))/python -W error -c "import affect_client, service.app"
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(PART)

serve: $(SERVING)
	$(BIN)/python -m service

# CONFIG is the configuration and RUN the folder of the run:
# make train CONFIG=training/configs/ferplus_1_pooled_56.toml RUN=runs/mine
train: $(STAMP)
	$(BIN)/python -m training.train --config $(CONFIG) --run $(RUN)

# Trains the included bundle again, into runs/bundle, with seed 0, from the FER+ folders, MediaPipe's model, MakeHuman's
# skins and ICT-FaceKit's model:
# make bundle FERPLUS=folder TEACHER=face_landmarker.task SKINS=folder ICT=ict_facekit.npz
# It takes two days on two cores; after an interruption the same command continues.
STAGES := 1_pooled_56 2_pooled_56 3_pooled_56 4_ddamfn_112 5_ddamfn_112 6_ddamfn_112 7_local_112 8_mixed_local_112 \
	9_changes_local_112 11_more_people_local_112 14_new_people_local_112 15_eye_region_112 16_with_eyes_local_112 \
	17_mouth_region_112 18_with_mouth_local_112
RUN_OF_BUNDLE := runs/ferplus-18
# Eight prepared sets: FER+; rendered people of all splits; five sets of further rendered people to learn from, each of whom
# sits once, in smaller pictures; and TEST, people who measure alone. Those of SHORT and FURTHER sit for four pictures, all
# others for eight.
PREPARED := data/ferplus-112
RENDERED := data/rendered-112
PEOPLE := data/rendered-people-112
MORE := data/rendered-more-112
SHORT := data/rendered-short-112
LONG := data/rendered-long-112
FURTHER := data/rendered-further-112
TEST := data/rendered-test-112
RENDER = $(BIN)/python -m training.render --skins $(SKINS) --ict $(ICT)
RENDERED_COUNT := 3400
PEOPLE_COUNT := 5600
MORE_COUNT := 18624
SHORT_COUNT := 13452
LONG_COUNT := 12520
FURTHER_COUNT := 16760
TEST_COUNT := 4000
PREPARE = $(BIN)/python -m training.prepare --min-confidence 0.3
# Fewer than 5 % of neutral faces are to be active in any unit. A share of the 1,018 neutral validation faces has a standard
# error of 0.7 %; with two of these less, 3.6 %, it was 5.6 % on test.
RESTING_SHARE := 0.032
TERMS := FER+ votes: MIT. FER2013 images: gathered by web search, no licence of their photographers; none are shipped. \
	Rendered faces: ICT-FaceKit (MIT), MakeHuman's mesh and skins (CC0).
EXPORT = $(BIN)/python -m training.export --run $(RUN_OF_BUNDLE) --name ferplus-ddamfn --version 6.10 --licence Apache-2.0 \
	--data-terms "$(TERMS)"

bundle: $(STAMP)
	test -d $(PREPARED) || $(PREPARE) --dataset ferplus --root $(FERPLUS) --out $(PREPARED) --teacher $(TEACHER)
	test -d $(RENDERED) || { $(RENDER) --out data/renders --count $(RENDERED_COUNT) && \
		$(PREPARE) --dataset rendered --root data/renders --out $(RENDERED); }
	test -d $(PEOPLE) || { $(RENDER) --out data/renders-people --count $(PEOPLE_COUNT) --people 3000 --seed 1 \
		--size 192 --samples 4 --splits train validation && \
		$(PREPARE) --dataset rendered --root data/renders-people --out $(PEOPLE); }
	test -d $(MORE) || { $(RENDER) --out data/renders-more --count $(MORE_COUNT) --people 6000 --seed 2 \
		--size 192 --samples 4 --splits train && \
		$(PREPARE) --dataset rendered --root data/renders-more --out $(MORE); }
	test -d $(SHORT) || { $(RENDER) --out data/renders-short --count $(SHORT_COUNT) --people 12000 --seed 3 \
		--size 192 --samples 4 --splits train validation --sitting 4 && \
		$(PREPARE) --dataset rendered --root data/renders-short --out $(SHORT); }
	test -d $(LONG) || { $(RENDER) --out data/renders-long --count $(LONG_COUNT) --people 12000 --seed 4 \
		--size 192 --samples 4 --splits train && \
		$(PREPARE) --dataset rendered --root data/renders-long --out $(LONG); }
	test -d $(FURTHER) || { $(RENDER) --out data/renders-further --count $(FURTHER_COUNT) --people 15000 --seed 5 \
		--size 192 --samples 4 --splits train --sitting 4 && \
		$(PREPARE) --dataset rendered --root data/renders-further --out $(FURTHER); }
	test -d $(TEST) || { $(RENDER) --out data/renders-test --count $(TEST_COUNT) --people 2000 --seed 6 --splits test && \
		$(PREPARE) --dataset rendered --root data/renders-test --out $(TEST); }
	for stage in $(STAGES); do \
		$(BIN)/python -m training.train --config training/configs/ferplus_$$stage.toml --run runs/ferplus-$${stage%%_*} \
			$(TRAIN_OPTIONS) || exit 1; \
	done
	$(BIN)/python -m training.calibrate --run $(RUN_OF_BUNDLE) --prepared $(PREPARED) $(RENDERED) $(SHORT) \
		--weights 40 1 1 --resting-share $(RESTING_SHARE)
	$(BIN)/python -m training.eyes --run $(RUN_OF_BUNDLE) --prepared $(PREPARED) $(RENDERED) $(SHORT) --precision bfloat16
	$(BIN)/python -m training.changes --run $(RUN_OF_BUNDLE) --prepared $(RENDERED) $(SHORT) $(LONG) $(FURTHER) \
		--precision bfloat16
	rm -rf runs/unmeasured runs/bundle
	$(EXPORT) --out runs/unmeasured
	$(BIN)/python -m training.studies.twins --root $(FERPLUS) --out runs/twins.csv
	$(BIN)/python -m training.evaluate --model runs/unmeasured --prepared $(PREPARED) --out runs/quality.json \
		--groups runs/twins.csv --group-by twin --plots runs/plots
	$(BIN)/python -m training.evaluate --model runs/unmeasured --prepared $(TEST) --out runs/rendered.json
	$(EXPORT) --out runs/bundle --quality runs/quality.json runs/rendered.json
	rm -r runs/unmeasured
	@echo "On a CPU with bfloat16, this lets the service use it by default:"
	@echo "$(BIN)/python -m training.precision --bundle runs/bundle --prepared $(PREPARED) --record"

# Writes one markdown file of figures into the folder OUT; BENCH_FLAGS=--quick only shows that all parts run.
OUT ?= bench-results
bench: $(STAMP)
	$(BIN)/python -m benchmarks --out $(OUT) $(BENCH_FLAGS)

# Chooses the newest versions within the bounds of pyproject.toml for the image, and writes them and their hashes down.
# Those of torch have no hashes, since the image may take a build of torch for CPUs, which has others.
COMPILE = $(BIN)/pip-compile --quiet --upgrade --no-config --allow-unsafe --strip-extras --no-header --no-annotate \
	--no-emit-index-url --no-emit-trusted-host --no-emit-find-links
constraints: $(STAMP)
	$(COMPILE) --generate-hashes --all-build-deps --extra web --extra page --extra openvino \
		--extra postgres --output-file constraints.txt pyproject.toml
	$(COMPILE) --constraint constraints.txt --extra torch --output-file constraints-torch.txt pyproject.toml

# Writes a software bill of materials of the virtual environment, in CycloneDX's form.
SBOM ?= sbom.json
sbom: $(STAMP)
	$(BIN)/python -m cyclonedx_py environment --pyproject pyproject.toml --output-file $(SBOM) $(BIN)/python
