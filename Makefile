# Two commands do everything on a new machine: `make reproduce` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
MODEL ?= specimen
OUT ?= build/records
JOBS ?= 2
BENCH := build/bench-venv

.PHONY: setup reproduce test test-all check quick lint readme site serve record census collaborate train retrain bench clean

# Set up a virtual environment with the tested versions. torch is installed first, at its pinned version, so that no
# other package pulls a build for other hardware.
setup: $(VENV)/.done
$(VENV)/.done: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip -c constraints.txt
	$(BIN)/python -m pip install --quiet -c constraints.txt torch
	$(BIN)/python -m pip install --quiet -c constraints.txt --group test --group site -e .
	touch $@

# Rerun every finding on the specimen (or MODEL=...): it prints tables and writes records to build/records. A finding
# that does not reproduce is a result, not a failed build.
reproduce: setup
	@$(BIN)/headatlas run --all --model $(MODEL) --jobs $(JOBS) --out $(OUT) || test $$? -eq 1

# Everything but the slow tests, in as many processes as JOBS says. Small models are many times slower on several
# threads, so each process has one.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest -n $(JOBS) --dist worksteal
test: lint
	$(PYTEST) -m "not slow and not wide"

# The slow tests too: every family of transformers, and more untrained models.
test-all: lint
	$(PYTEST)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/headatlas validate

# What an entry and its script need, in less than a minute: linter, files, tests of the catalog and of scripts.
CHECK := $(addprefix catalog/test_,catalog.py findings.py formulas.py published_lists.py wordings.py) \
	protocol/test_script_check.py reproductions/test_script_scores.py
check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/headatlas validate
	$(BIN)/python tools/readme_counts.py --check
	$(PYTEST) -m "not slow and not wide" $(addprefix tests/,$(CHECK))

# Some tests of every room, in less than a minute: for work in progress.
QUICK := test_notation.py catalog/test_reading.py census/test_uneven_census.py cli/test_progress.py \
	collaboration/test_collaboration.py::TestPictures evidence/test_evidence.py pages protocol/test_literature.py \
	reproductions/test_script_scores.py stimuli/test_rows.py tools/test_tools.py \
	$(addprefix lab/,ablation/test_sources.py activations/test_interventions.py anatomy/test_anatomy.py \
	attention/test_cmr.py attention/test_pairs.py attribution/test_direct_effects.py fits/test_probes.py \
	graphs/test_graphs.py hooks loading/test_damaged_folders.py paths/test_path_sweeps.py running \
	safety/test_doctor.py weights/test_ov_qk.py)
quick: setup
	$(PYTEST) -m "not slow and not wide" $(addprefix tests/,$(QUICK))

# Write the counts of README.md anew, from the catalog and the records.
readme: setup
	$(BIN)/python tools/readme_counts.py

site: setup
	$(BIN)/python tools/build_pages.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "built build/site for any static host; to look at it here: make serve"

serve: setup
	$(BIN)/python tools/build_pages.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve

# Rewrite the records that ship with the project, with three seeds each, for the specimen and its siblings or for
# MODELS=... Current records are kept.
MODELS ?= $(notdir $(wildcard src/headatlas/specimens/specimen*))
record: setup
	@for model in $(MODELS); do \
		$(BIN)/headatlas run --all --model $$model --seeds 3 --jobs $(JOBS) --out reproductions/results || test $$? -eq 1 || exit; \
	done

# Rewrite the censuses that ship with the project, for the same models or for MODELS=... (ids or folders). Parts are in
# build/census; current parts are not measured again.
CENSUSES := reproductions/census
census: setup
	@mkdir -p $(CENSUSES)
	@for model in $(MODELS); do \
		$(BIN)/headatlas census $$model --budget full --out build/census && \
		cp build/census/$${model##*/}/census.json $(CENSUSES)/$${model##*/}.json || exit; \
	done

# Measure the edges between the heads that these records found.
collaborate: setup
	@for model in $(MODELS); do \
		$(BIN)/headatlas collaborate $$model --records reproductions/results --out reproductions/collaboration || exit; \
	done

# Train the specimen from scratch and install it in the package; or a sibling, with ARCH, SEED and NAME.
ARCH ?= gpt2
SEED ?= 0
NAME ?= specimen
train: setup
	$(BIN)/python tools/train_specimen.py --arch $(ARCH) --seed $(SEED) --out build/$(NAME) --install $(NAME)

# Train a model that ships a second time, and note on its card whether the weights are identical.
retrain: setup
	$(BIN)/python tools/train_specimen.py --arch $(ARCH) --seed $(SEED) --out build/again-$(NAME) --compare $(NAME)

# Compare with TransformerLens on the same random weights: first the numbers, head by head, then time and memory. It uses
# its own environment, because TransformerLens is not a dependency; only pip needs a network.
bench: $(BENCH)/.done
	HF_HUB_OFFLINE=1 $(BENCH)/bin/python tools/cross_check.py
	HF_HUB_OFFLINE=1 $(BENCH)/bin/python tools/bench.py
$(BENCH)/.done: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(BENCH)
	$(BENCH)/bin/python -m pip install --quiet --upgrade pip -c constraints.txt
	$(BENCH)/bin/python -m pip install --quiet -c constraints.txt torch
	$(BENCH)/bin/python -m pip install --quiet -c constraints.txt -e . transformer_lens==4.3.0
	touch $@

clean:
	rm -rf $(VENV) build dist
