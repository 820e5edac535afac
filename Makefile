# `make run` and `make test` do all the set-up themselves; nothing is needed but Python 3.11+, pip and make.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: run train-all test test-quick check docs format lint types audit clean

run: .venv/run.done ## the main job on the phantom
	$(BIN)/python -m tune_btxrd run

train-all: .venv/run.done ## the hand-made config on both splits
	$(BIN)/python -m tune_btxrd train --splits stratified,center

test: .venv/dev.done ## all tests, in two processes, with the branches that they cover
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --durations=10 --cov --cov-report=term

test-quick: .venv/dev.done ## without those that start Ray or train a real network
	$(BIN)/python -m pytest -m "not slow"

check: lint types docs test ## what CI runs

lint: .venv/dev.done
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/hadolint deploy/Dockerfile

docs: .venv/dev.done ## the site, in build/site; a broken link or reference fails
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

types: .venv/dev.done
	$(BIN)/mypy

audit: .venv/dev.done ## weaknesses in our code (bandit) and in the pinned packages (pip-audit, which asks PyPI)
	$(BIN)/python -m tests.support.security
	@$(BIN)/pip-audit --strict --requirement requirements.txt --no-deps --disable-pip --progress-spinner off || { echo \
	"pip-audit: a package above has a known weakness, or PyPI could not be asked about every one. In the second case nothing is known: run it again where PyPI answers."; exit 1; }

format: .venv/dev.done
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/python -m tests.support.house

clean: ## removes what make made; results and checkpoints stay
	rm -rf .venv build *.egg-info .mypy_cache .ruff_cache .pytest_cache

.venv/run.done: requirements.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 to 3.13 is needed, but this is " + sys.version.split()[0]) if not (3, 11) <= sys.version_info[:2] <= (3, 13) else None'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "Installing the packages of requirements.txt (about 3 GB with torch, a few minutes) ..."
	$(PIP) -r requirements.txt
	$(PIP) --no-deps --editable .
	touch $@

.venv/dev.done: .venv/run.done
	$(PIP) --editable '.[dev]'
	touch $@
