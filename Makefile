# Every target does its own set-up; a fresh machine needs Python (3.11 or newer) and make.
#   make demo    the main job on images that the repository carries
#   make test    lint, types, all tests
#   make bench   the benchmarks' tables (some take minutes)

BIN := .venv/bin
INPUTS := pyproject.toml constraints.txt scripts/setup.sh tests/nnunet-check-requirements.txt

.PHONY: demo test lint types tests bench clean

demo: .venv/.ready-demo
	$(BIN)/python examples/demo.py demo

test: lint types tests

lint: .venv/.ready-test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pre-commit validate-config

# Static tools do not see the mapping of models/ and annotation_db/: check an installed copy.
# build/ is emptied because setuptools would pack files from it that no longer exist.
types: .venv/.ready-test
	rm -rf build .typecheck
	$(BIN)/python -m pip install -q --no-deps --target .typecheck .
	$(BIN)/mypy

tests: .venv/.ready-test
	$(BIN)/python -m pytest

bench: .venv/.ready-bench
	for file in benchmarks/*.py; do $(BIN)/python $$file || exit 1; done

.venv/.ready-%: $(INPUTS)
	scripts/setup.sh $*

clean:
	rm -rf .venv .typecheck build demo .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
