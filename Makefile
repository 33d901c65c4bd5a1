# `make help` lists the targets. Another Python, uv or place: make install PYTHON=python3.12 VENV=env
VENV    ?= .venv
# Looked up once, and only where an installation needs them.
UV      ?= $(eval UV := $$(shell uv --version >/dev/null 2>&1 && command -v uv))$(UV)
PYTHON  ?= $(eval PYTHON := $$(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	"$$$$p" -c '$$(SUITS)' >/dev/null 2>&1 && command -v "$$$$p" && break; done))$(PYTHON)
WORKERS ?= 2
UPGRADE ?=
# What the demo is to do otherwise, as DEMO=trainer.max_epochs=2.
DEMO    ?=
# Empty: PyTorch's CPU wheels, where there is no GPU and the package index has them. no: never.
CPU     ?=

BIN    = $(VENV)/bin
READY  = $(VENV)/.ready
NEW    = import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))
SUITS  = $(if $(UV),,import venv, ensurepip; )$(NEW)
FIT    = no Python 3.11 to 3.13$(if $(UV),, that has venv and ensurepip)
UV_PIP = $(or $(UV),$(BIN)/uv) pip install --compile-bytecode $(if $(CI),-q) --python $(BIN)/python
# What CUDA's wheels bring, and CPU wheels do not need; PyTorch of the lock file as a CPU wheel.
CUDA   = torch\(vision\)\{0,1\}\|triton\|nvidia-[a-z0-9-]*\|cuda-[a-z0-9-]*
CPU_TORCH = $(shell sed -n 's/^\(torch\(vision\)\{0,1\}==[0-9.]*\) .*/\1+cpu/p' requirements.lock)
HAS_CPU = test -z '$(CPU)' && ! nvidia-smi -L >/dev/null 2>&1 && \
	$(UV_PIP) -q --dry-run --no-deps $(CPU_TORCH) >/dev/null 2>&1
# One thread each: small networks gain little from a second, and crawl with it on a busy machine.
# Offline: no test can reach an account.
PYTEST = OMP_NUM_THREADS=1 WANDB_MODE=offline $(BIN)/python -m pytest
QUICK  = not slow and not slurm and not ray
LONG   = slow and not slurm and not ray
TOOLS  = $(addprefix tests/,benchmarks examples fuzz notebooks random_networks zoo)
TYPED  = --jaxtyping-packages=ssr_exp.search,ssr_exp.training,ssr_exp.tasks,ssr_exp.datasets,ssr_exp.runs,run_time_types.check
# Neighbours stay together: what a module shares is made once.
SPREAD = -n $(WORKERS) --dist worksteal
LISTED = $(if $(CI),--durations=60)
CLUSTER = slurm-wlm munge slurmdbd mariadb-server

.DEFAULT_GOAL := help
.PHONY: help install demo demo-segmentation test lint types slow tools docs check format bench figures browser zoo lock audit fuzz random-networks faults test-cluster clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-17s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(READY) ## Create .venv and install what requirements.lock lists

demo: $(READY) ## Search a small network on embedded images: sentinels, two rounds, the answer
	WANDB_MODE=offline $(BIN)/ssr search experiment=demo rounds=2 batch=4 $(DEMO)

demo-segmentation: $(READY) ## The same for a small U-Net on embedded images with masks, and its ONNX file
	WANDB_MODE=offline $(BIN)/ssr search experiment=demo_segmentation rounds=2 batch=4 objective=smallest objective.max_drop=2 \
		hydra/launcher=joblib hydra.launcher.n_jobs=2
	$(BIN)/ssr export paths.runs=runs/demo_segmentation run=best format=onnx

test: $(READY) ## Run the unit tests
	$(PYTEST) $(SPREAD) $(LISTED) -m '$(QUICK)' $(TYPED)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

slow: $(READY) # of the product
	$(PYTEST) $(SPREAD) $(LISTED) -m '$(LONG)$(if $(CI), and not more)' $(TOOLS:%=--ignore=%)

tools: $(READY) # benchmarks, examples, fuzzing, notebooks, random networks, zoo
	$(PYTEST) $(SPREAD) $(LISTED) -m '$(LONG)$(if $(CI), and not more)' $(TOOLS)

test-cluster: $(READY) ## Sweeps and searches on a real Slurm and a real Ray, on loopback (installs what is missing: Debian)
	@PATH="$$PATH:/usr/sbin:/sbin"; for p in sbatch slurmctld slurmd slurmdbd munged mariadbd; do \
		command -v $$p >/dev/null || missing=$$p; done; test -z "$$missing" || { apt-get update -qq && \
		DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(CLUSTER) >/dev/null; }
	$(PYTEST) $(LISTED) -m '(slurm or ray)$(if $(CI), and not more)' tests/cluster

check: lint types docs test demo slow tools ## Run all that CI runs but the clusters: lint, types, every test, the demo

format: $(READY) ## Format the code and mend what ruff can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY) ## Run the benchmarks
	$(BIN)/python -m benchmarks

docs: $(READY) ## Build the documentation strictly, into docs/_build
	$(BIN)/python -m sphinx -q -E -a -W --keep-going -b html docs docs/_build

figures: $(READY) ## Draw the README's pictures again, from committed results
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.figures

browser: ## Install Chromium, which the tests of the page and `make figures` drive (Debian)
	@command -v chromium chromium-browser google-chrome >/dev/null || { apt-get update -qq && \
		DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
		chromium fonts-dejavu-core >/dev/null; }

zoo: $(READY) ## Check all networks of the zoo (an hour and a half), write results/zoo.md
	$(BIN)/python -m tests.zoo --jobs $(WORKERS)

lock: $(READY) ## Resolve requirements.lock again; everything to its newest: UPGRADE=--upgrade
	$(BIN)/uv pip compile -q pyproject.toml --group dev --universal --python-version 3.11 \
		--generate-hashes --no-emit-index-url --no-emit-find-links --no-annotate --no-header \
		$(UPGRADE) -o requirements.lock

audit: $(READY) ## Look for known vulnerabilities of what requirements.lock lists (asks an advisory service)
	$(BIN)/pip-audit --requirement requirements.lock --require-hashes --disable-pip --strict \
		--progress-spinner off

faults: $(READY) ## Kill, fill, cut, flip: every fault at 50 random moments (an hour), counted
	WANDB_MODE=offline $(BIN)/python -m tests.faults --moments 50

fuzz: $(READY) ## Read a million damaged inputs (ten minutes); what breaks a reader goes to fuzz-failures/
	WANDB_MODE=offline $(BIN)/python -m tests.fuzz

random-networks: $(READY) ## Rescale 2,000 random networks (an hour), write results/random-networks.json
	$(BIN)/python -m tests.random_networks --networks 2000 --out results/random-networks.json

clean: ## Remove .venv and caches; runs/ and data/ stay
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis docs/_build
	find ssr_exp hydra_plugins tests -name __pycache__ -prune -exec rm -rf {} +

# Where there is no uv, the one that the lock pins is fetched first, by its hash like the rest.
$(READY): requirements.lock pyproject.toml
	@test ! -e $(VENV) || $(BIN)/python -c '$(NEW)' 2>/dev/null || \
		{ echo '$(VENV) holds no working Python 3.11 to 3.13: remove it with `make clean`.' >&2; exit 1; }
	@test -e $(VENV) || '$(or $(PYTHON),false)' -c '$(SUITS)' 2>/dev/null || \
		{ echo '$(or $(PYTHON),There) is $(FIT).' \
		'Install one (Debian, Ubuntu: apt install python3-venv) or name it: make install PYTHON=python3.12' >&2; exit 1; }
	@echo 'Installing into $(VENV) (the first time: some minutes, up to 8 GB) ...'
	@test -e $(VENV) || $(if $(UV),$(UV) venv -q --python $(PYTHON),$(PYTHON) -m venv) $(VENV)
	@$(if $(UV),:,test -x $(BIN)/uv) || { sed -n '/^uv==/,/[^\\]$$/p' requirements.lock >$(VENV)/uv.lock && \
		$(BIN)/python -m pip install -q --no-deps --require-hashes -r $(VENV)/uv.lock; }
	@if $(HAS_CPU); then echo 'No NVIDIA GPU is here: PyTorch is installed for the CPU.' && \
		sed '/^\($(CUDA)\)==/,/[^\]$$/d' requirements.lock >$(VENV)/cpu.lock && \
		$(UV_PIP) --no-deps $(CPU_TORCH) && \
		$(UV_PIP) --no-deps --require-hashes -r $(VENV)/cpu.lock; \
	else $(if $(CPU),,test "$$(uname -s)" != Linux || nvidia-smi -L >/dev/null 2>&1 || \
		echo 'No NVIDIA GPU is here, and this index has no CPU wheels of PyTorch: CUDA wheels, which are larger, are installed.';) \
	$(UV_PIP) --require-hashes -r requirements.lock; fi
	@$(UV_PIP) --no-deps --no-build-isolation -e .
	@touch $@
	@echo "$(VENV) takes $$(du -sh $(VENV) | cut -f1)."
