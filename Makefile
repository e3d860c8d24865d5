# Everything is made in .venv, from the package registries alone. Safe to run twice.
# Another Python next to it: make test PYTHON=python3.13 VENV=.venv-3.13
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
EXTRAS := aggregator,ui,data,dev

.DEFAULT_GOAL := help
.PHONY: help demo flower bench chaos fuzz test test-all check format lock docs walk tour screenshots options proto clean
.PHONY: torch frameworks simulation schemas flower-next

help:  ## show this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# The stamp is made last: an installation that was cut off is taken up again.
$(VENV)/.installed: pyproject.toml requirements.lock
	@echo "installing into $(VENV) (some minutes, once)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: $(PYTHON) is older than 3.11: give another, make PYTHON=python3.12 ..."; exit 2; }
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check -c requirements.lock -e '.[$(EXTRAS)]'
	@touch $@

demo: $(VENV)/.installed  ## train on real digits: one aggregator, three learners, a process each
	@$(BIN)/python examples/demo.py

flower: $(VENV)/.installed simulation  ## the same model from our engine and from `flwr run`, twice
	@$(BIN)/python examples/flower.py

test: $(VENV)/.installed  ## the tests, without torch's and the slow ones
	@echo "left out here: the slow tests and those with torch (make test-all runs them)"
	@$(BIN)/python -m pytest -m "not slow and not torch" -n 2 --dist worksteal

bench: $(VENV)/.installed simulation  ## measure us and our peers side by side (a quarter of an hour)
	@$(BIN)/python -m benchmarks all --report docs/benchmarks.md

torch: $(VENV)/.installed
	@$(BIN)/python -c 'import torch' 2>/dev/null || \
		$(BIN)/pip install --quiet --disable-pip-version-check torch==2.13.0

simulation: $(VENV)/.installed
	@$(BIN)/python -c 'import ray' 2>/dev/null || $(BIN)/pip install --quiet \
		--disable-pip-version-check -c requirements.lock -e '.[$(EXTRAS),simulation]'

frameworks: $(VENV)/.installed torch
	@$(BIN)/python -c 'import keras, jax, xgboost, lightgbm, onnxruntime' 2>/dev/null || $(BIN)/pip install \
		--quiet --disable-pip-version-check -c requirements.lock -e '.[$(EXTRAS),frameworks]'

schemas: $(VENV)/.installed
	@$(BIN)/python -c 'import check_jsonschema, kubernetes_validate' 2>/dev/null || $(BIN)/pip install \
		--quiet --disable-pip-version-check -c requirements.lock -e '.[$(EXTRAS),schemas]'

test-all: $(VENV)/.installed frameworks simulation schemas  ## all tests; installs torch, keras, JAX, Ray ...
	@$(BIN)/python -m pytest -n 2 --dist worksteal

# requirements.lock is of the oldest flwr of pyproject.toml's range; this is of the newest.
NEXT := .venv-flower-next
$(NEXT)/.installed: pyproject.toml requirements.lock
	@echo "installing into $(NEXT) (some minutes, once)"
	@test -x $(NEXT)/bin/pip || $(PYTHON) -m venv $(NEXT)
	@grep -v -e '^flwr==' -e '^uv==' requirements.lock > $(NEXT)/constraints.txt
	@$(NEXT)/bin/pip install --quiet --disable-pip-version-check -c $(NEXT)/constraints.txt \
		'flwr[simulation]==1.42.*' -e '.[$(EXTRAS)]'
	@touch $@

flower-next: $(NEXT)/.installed  ## the tests of all that meets Flower, on flwr 1.42
	@$(NEXT)/bin/python -m pytest tests/flower tests/peers tests/runtime -n 2 --dist worksteal

chaos: $(VENV)/.installed  ## kills and cuts at random instants; CHAOS_SEED=N repeats one
	@$(BIN)/python -m pytest tests/chaos -s

fuzz: $(VENV)/.installed  ## 10,000 streams of rogues against a live run; FUZZ_SEED=N repeats one
	@$(BIN)/python -m pytest tests/fuzz -s

check: $(VENV)/.installed  ## ruff, mypy, the import rule
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/python -m pytest tests/test_structure.py

format: $(VENV)/.installed  ## put the code into shape
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

lock:  ## write requirements.lock: the versions that pyproject.toml's ranges give today
	@rm -rf build/lock && $(PYTHON) -m venv build/lock
	@build/lock/bin/pip install --quiet -e '.[$(EXTRAS),simulation]'
	@build/lock/bin/pip freeze --exclude-editable > requirements.lock
	@rm -rf build/lock

docs: $(VENV)/.installed  ## the docs as a site in build/site, links checked
	@$(BIN)/python -c 'import mkdocs, material' 2>/dev/null || $(BIN)/pip install --quiet \
		--disable-pip-version-check -c requirements.lock -e '.[$(EXTRAS),docs]'
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

walk: $(VENV)/.installed  ## follow README and docs in a fresh clone and bare environments
	@PYTHONPATH=. $(BIN)/python docs/make/walk.py

# Base images come from a registry, or from where FLOPS_BASE says; TOUR=--no-images needs no network.
tour: $(VENV)/.installed frameworks  ## from nothing to a served model, for three frameworks; writes docs/tour.md
	@PYTHONPATH=. $(BIN)/python docs/make/tour.py $(TOUR)

screenshots: $(VENV)/.installed  ## write the pictures of terminals in docs/images
	@PYTHONPATH=. $(BIN)/python docs/make/screenshots.py

options: $(VENV)/.installed  ## write docs/options.md from what flops_fl/options says
	@PYTHONPATH=. $(BIN)/python docs/make/options.py

proto:  ## make flops_pb2 from flops.proto
	@$(PYTHON) -m venv build/proto && build/proto/bin/pip install --quiet 'grpcio-tools==1.68.1' 'setuptools<80'
	@build/proto/bin/python -m grpc_tools.protoc -I . --python_out=. --pyi_out=. flops_fl/wire/flops.proto

clean:  ## remove what the commands above made
	@rm -rf $(VENV) $(NEXT) build runs .pytest_cache .mypy_cache .ruff_cache .hypothesis
