# Vallis: `make` alone says what there is. Works from a clean clone with nothing but Python >= 3.11 and make.

PYTHON ?= python3
# One more than the cores of a small machine: a tenth of the time tests wait for other processes.
JOBS   ?= 3
OUT    ?= out
# Which benchmarks (all if empty), and after how many seconds they are stopped; finished ones keep their results.
ONLY   ?=
BENCH_SECONDS ?= 3600

BIN   := .venv/bin
PIP   := $(BIN)/pip --disable-pip-version-check
PIP_BENCH := .venv-bench/bin/pip --disable-pip-version-check
# One thread a worker: with more, the pytest workers fight over the cores and every number takes longer.
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1

CHECKS = $(BIN)/ruff check && $(BIN)/ruff format --check && $(BIN)/mypy

.DEFAULT_GOAL := help
.PHONY: help setup run test check format slow bench docs clean

help: ## Print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: .venv/.installed ## Create .venv with everything that the other targets need

# torch goes first and by exact version: any later range is then satisfied, and no other build of it is ever fetched.
.venv/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) install --quiet -c constraints.txt "$$(grep '^torch==' constraints.txt)"
	$(PIP) install --quiet -c constraints.txt -e '.[plot,data,cluster,dev]'
	@touch $@

run: .venv/.installed ## Train a small network on the digits, examine it, write out/report.html
	$(BIN)/vallis examine digits --out $(OUT)
	@echo "The report is at $(OUT)/report.html: open it in a browser."

# The tests run even when a check fails: one run tells everything that is wrong, and pytest's summary comes last.
# (No $(MAKE) in here: make would run such a recipe even when it is only asked what it would do, with -n.)
test: .venv/.installed ## Check, then run every test that is not slow
	@failed=0; \
	$(CHECKS) || failed=1; \
	$(ONE_THREAD) $(BIN)/pytest -n $(JOBS) || failed=1; \
	exit $$failed

check: .venv/.installed ## Lint (ruff), formatting (ruff format) and types (mypy --strict)
	$(CHECKS)

format: .venv/.installed ## Let ruff sort the imports and format the code
	$(BIN)/ruff check --select I --fix
	$(BIN)/ruff format

slow: .venv/.installed ## Run the tests that take long
	$(ONE_THREAD) $(BIN)/pytest -m slow

# Beside the peers, Vallis runs in one process and on one torch. --no-deps: see benchmarks/peers.txt.
.venv-bench/.installed: pyproject.toml constraints.txt benchmarks/peers.txt
	test -x .venv-bench/bin/python || $(PYTHON) -m venv .venv-bench
	$(PIP_BENCH) install --quiet -c constraints.txt "$$(grep '^torch==' constraints.txt)"
	$(PIP_BENCH) install --quiet -c constraints.txt -e '.[bench]'
	$(PIP_BENCH) install --quiet -c constraints.txt --no-deps -r benchmarks/peers.txt
	@touch $@

bench: .venv-bench/.installed ## Time Vallis against its peers, in an environment of their own (make bench ONLY=E1,E5)
	$(ONE_THREAD) timeout $(BENCH_SECONDS) .venv-bench/bin/python -m benchmarks --only "$(ONLY)"

docs: .venv/.installed ## Build the documentation, strictly, into docs/_build/html
	$(BIN)/sphinx-build -W --keep-going -n -b html docs docs/_build/html
	@echo "The documentation is at docs/_build/html/index.html"

clean: ## Remove reports, builds and caches (the environments stay)
	rm -rf out build dist docs/_build docs/parts docs/modules .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks
	find . \( -path ./.venv -o -path ./.venv-bench \) -prune -o -name __pycache__ -type d -exec rm -rf {} +
