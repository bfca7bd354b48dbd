# Every target first makes .venv when it is missing or older than what it is made from.
#   PYTHON=python3.12 make test                                           another Python, 3.11 or newer
#   PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu make test    torch without CUDA: a tenth of the download
PYTHON ?= python3
BIN := .venv/bin
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4

.DEFAULT_GOAL := help
.PHONY: help demo test test-all check fix bench bench-gpu bench-reliability bench-pilot bench-faults docs clean

help:  ## say what there is
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1	/' | expand -t 20

demo: .venv/made  ## train a small GPT on real text, about two minutes on two cores
	@$(BIN)/steepest demo

test: .venv/made  ## the tests, under ten minutes on two cores
	$(PYTEST) -m "not slow"

test-all: .venv/made  ## every test, with a deep search for counterexamples
	HYPOTHESIS_PROFILE=deep $(PYTEST) --timeout 3600

check: .venv/made  ## formatting, rules of style, types, layers, generated files
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/lint-imports --no-logo
	$(BIN)/python tools/generate.py --check

fix: .venv/made  ## put right what a tool can
	$(BIN)/ruff check --fix --quiet . || true
	$(BIN)/ruff format .
	$(BIN)/python tools/generate.py

bench: .venv/made  ## the time of one step of every rule, beside the alternatives
	@$(BIN)/steepest bench step

bench-gpu: .venv/made  ## values and speed of the kernels on a CUDA device
	@$(BIN)/python benchmarks/gpu.py

bench-reliability: .venv/made  ## kills, signals, damage, full disks: what a run survives, about ten minutes
	@$(BIN)/python benchmarks/reliability

bench-faults: .venv/made  ## the doctor on planted faults and healthy controls, an hour and more
	@$(BIN)/python benchmarks/faults run && $(BIN)/python benchmarks/faults score

bench-pilot: .venv/made  ## the pilot against sweeps and opponents, and under stress; two hours the first time, then half of one
	@for kind in adamw muon sgd standardised; do \
	    $(BIN)/python benchmarks/pilot sweep --kind $$kind --seeds 0 1 2 || exit 1; done
	@$(BIN)/python benchmarks/pilot run --out benchmarks/pilot/results/opponents.jsonl \
	    --contender adamw_default prodigy schedulefree lr_finder lightning_finder
	@made=$$(mktemp -d) && $(BIN)/python benchmarks/pilot run --contender steepest --out $$made/steepest.jsonl && \
	    for what in stress horizon wall regret; do \
	    $(BIN)/python benchmarks/pilot $$what --jobs 2 --out $$made/$$what.jsonl || exit 1; done && \
	    $(BIN)/python benchmarks/pilot score --files $$made/steepest.jsonl \
	    $(patsubst %,benchmarks/pilot/results/%.jsonl,adamw muon sgd standardised opponents) && rm -r $$made

docs: .venv/made  ## remake pictures and tables, then run every code block
	$(BIN)/python tools/generate.py
	$(BIN)/python -m pytest -q tests/test_docs.py

clean:  ## remove what tools leave behind; .venv stays
	rm -rf build dist .hypothesis .import_linter_cache .pytest_cache .ruff_cache
	find src tests tools -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/made: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "steepest needs Python 3.11 or newer, and $(PYTHON) is not: name one, as in PYTHON=python3.12 make test" >&2; \
	    exit 2; }
	@echo "Making .venv with the versions of constraints.txt: a few minutes the first time."
	@$(PYTHON) -m venv .venv
	@$(BIN)/pip install -qq --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@
