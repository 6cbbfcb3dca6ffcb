# Two commands for newcomers: `make demo` and `make test`. Both set up what they need.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test check-style clean
-include tests/benchmarks/bench.mk tests/chaos/chaos.mk deploy/deploy.mk

demo: $(STAMP)
	@$(BIN)/discreet demo

test: $(STAMP) check-style
	$(BIN)/coverage run -m pytest -q
	$(BIN)/coverage report --include 'proxy/core/*' --fail-under=99

check-style: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The virtual environment, with the versions that the tests passed with.
$(STAMP): pyproject.toml .requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r .requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $(STAMP)

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
