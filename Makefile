# `make demo` and `make test` set up by themselves. `make help` lists the rest.
SHELL := /bin/bash
BIN := .venv/bin
.DEFAULT_GOAL := help

.PHONY: help
help:  ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: setup
setup:  ## virtual environment, locked dependencies, Debian packages where apt and root are at hand
	@bash scripts/setup.sh

.PHONY: demo
demo: setup  ## a small dataset from what is at hand, one track of it to look at and to listen to
	@$(BIN)/stemgmd demo

.PHONY: test
test: setup  ## the tests (those of minutes each: .venv/bin/python -m pytest -m long)
	@$(BIN)/python -m pytest -n 2 --dist loadfile -q

.PHONY: lint
lint: setup  ## ruff, import rules, mypy
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/lint-imports --no-logo && $(BIN)/mypy

.PHONY: docs
docs: setup  ## these pages and the API as a site that opens from disk: site/index.html
	@$(BIN)/python -m mkdocs build --strict --quiet && echo "site/index.html"

.PHONY: bench
bench: setup  ## speed, as ratios measured side by side in one run
	@$(BIN)/stemgmd speed dataset
	@$(BIN)/stemgmd speed bsseval
	@$(BIN)/stemgmd speed nmfd
	@$(BIN)/stemgmd speed larsnet

.PHONY: leaderboard
leaderboard: setup  ## add to leaderboard/ what is missing: systems that are new or have changed
	@$(BIN)/stemgmd bench run --out results --known leaderboard --split test
	@$(BIN)/stemgmd bench report leaderboard results --out leaderboard --with-records
	@$(BIN)/stemgmd bench report leaderboard --tracks '*/eval_session/*' --no-audio --out leaderboard/paper-clips

.PHONY: lock
lock:  ## resolve the dependencies anew and write requirements.lock
	@bash scripts/lock.sh

.PHONY: clean
clean:  ## remove the virtual environment, the demo and caches
	@rm -rf .venv demo site build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
