.PHONY: help install run test check docs format
PYTHON ?= python3
BIN := .venv/bin

help: ## show these targets
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(BIN)/streamlit: requirements.txt requirements-dev.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -r requirements-dev.txt
	@touch $(BIN)/streamlit

install: $(BIN)/streamlit ## make .venv with everything in it

run: $(BIN)/streamlit ## open the app
	$(BIN)/streamlit run app.py

test: $(BIN)/streamlit ## run all tests
	$(BIN)/python -m pytest

check: $(BIN)/streamlit ## format, lint, types, and the rooms kept apart
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports
	$(BIN)/mypy

docs: $(BIN)/streamlit ## build the documentation into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

format: $(BIN)/streamlit ## lay the code out, sort imports and apply safe fixes
	$(BIN)/ruff check --fix
	$(BIN)/ruff format
