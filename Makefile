# Every target does its own set-up; a fresh machine needs Python (3.11 or newer) and make.
#   make demo    the main job on images that the repository carries
#   make test    lint, types, all tests
#   make docs    the documentation as web pages, into build/site; warnings are errors
#   make gui     the annotation session in napari, on a sample project or PROJECT=folder; needs a desktop
#   make screenshots   docs/images/session_*.png anew, from a real session (under Xvfb)
#   make bench   the benchmarks in their short forms, some minutes; docs/benchmarks.md names the long ones

BIN := .venv/bin
PROJECT ?= demo/session
INPUTS := pyproject.toml constraints.txt scripts/setup.sh tests/nnunet-check-requirements.txt

.PHONY: demo docs gui screenshots test lint types tests bench clean

demo: .venv/.ready-demo
	$(BIN)/python examples/demo.py demo

gui: .venv/.ready-gui
	$(BIN)/python examples/gui.py "$(PROJECT)"

screenshots: .venv/.ready-test
	QT_API=pyqt6 xvfb-run -a -s "-screen 0 1600x1000x24" $(BIN)/python scripts/screenshots.py docs/images

docs: .venv/.ready-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

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

# One a line, with what makes it short. activeft_tuning.py has no short form and is left out.
define SHORT_BENCHMARKS
pool_scale.py --quick
store_processes.py --quick
store_kills.py --quick
payload.py --quick
selective_scan.py --quick --only times
gpu_scan.py
products.py --rounds 3
encoders.py --rounds 1
training_step.py --rounds 1 --models vm_unet_s1 --scans c torch
selection_speed.py --only selections --sizes 1
selection_quality.py $(QUICK_QUALITY)
endef
QUICK_QUALITY := --pools digits synthetic --selectors activeft maxherding kmeans \
	stratified_random random --budgets 0.05 --seeds 2 --out benchmarks/results/quick
export SHORT_BENCHMARKS

bench: .venv/.ready-bench
	rm -rf benchmarks/results/quick
	echo "$$SHORT_BENCHMARKS" | while read -r command; do \
		echo "== $$command"; $(BIN)/python benchmarks/$$command </dev/null || exit 1; done

.venv/.ready-%: $(INPUTS)
	scripts/setup.sh $*

clean:
	rm -rf .venv .typecheck build demo .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
