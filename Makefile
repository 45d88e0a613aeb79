# Two commands: `make lab` opens the lessons, `make test` runs every test. Both set up .venv first; the second time they
# start at once. Without make (Windows): see "Without make" in README.md, this file only calls what is written there.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
EXTRAS := lab,test
STAMP := $(VENV)/.minidiff-$(EXTRAS)
WORKERS ?= 2

.PHONY: lab test bench setup clean
.DEFAULT_GOAL := lab

lab: setup
	@$(BIN)/minidiff lab $(ARGS)

test: setup
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile $(ARGS)

# with the peers that only this compares with; `python -m benchmarks` does without
bench:
	@$(MAKE) --no-print-directory setup EXTRAS=$(EXTRAS),bench
	$(BIN)/python -m benchmarks $(ARGS)

setup: $(STAMP)

# The stamp stands for a finished installation: an interrupted one is repeated, a change of pyproject.toml renews it.
$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) else "minidiff needs Python 3.11 or newer, and $(PYTHON) is %d.%d. Name another one: make PYTHON=python3.12 setup" % v[:2])'
	@echo "Setting up $(VENV) with about 6 GB of packages: a few minutes, this once."
	$(PYTHON) -m venv $(VENV)
	@if command -v uv >/dev/null 2>&1 && uv pip install --python $(BIN)/python -e ".[$(EXTRAS)]"; then :; \
	else $(BIN)/python -m pip install --disable-pip-version-check -e ".[$(EXTRAS)]"; fi
	@touch $(STAMP)

clean:
	rm -rf build results/*.tmp .pytest_cache .ruff_cache
