# make demo          trains a small network alone, with OKDDip and with DML, four times each, and says in words what helped
# make test          runs the tests
# make test-extras   runs the tests of what needs optional packages (ONNX, Lightning, TensorBoard, ...)
# make package       builds wheel and sdist in dist/, and tries both in an environment that has nothing else
# The virtual environments .venv and, for the last two, .venv-extras are made on first use; PYTHON=python3.12 chooses another
# interpreter. WORKERS=1 runs the tests one after the other.
PYTHON ?= python3
BIN := .venv/bin
EXTRAS := .venv-extras/bin
# Tests run in one process per core, at most eight since each takes about a gigabyte, and with one thread each.
WORKERS ?= auto

.PHONY: demo test test-extras package lint types install clean

demo: .venv/installed
	$(BIN)/codistill compare --data glyphs --image-size 16 --train-subset 1000 --validation 0.02 --model resnet8_tiny \
	  --epochs 25 --batch-size 64 --optim.lr 0.4 --optim.weight-decay 0.005 --optim.schedule cosine --augment.crop-padding 0 \
	  --device cpu --seeds 4 --out runs/demo --methods okddip dml
	@echo "Computed earlier, with 3,000 images and ten seeds: docs/results.md"

test: .venv/installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --maxprocesses 8 --dist worksteal

test-extras: .venv-extras/installed
	OMP_NUM_THREADS=1 $(EXTRAS)/python -m pytest tests/extras

# The wheel, which is built from the sdist, goes into an empty environment; `make test-extras` adds to that one later.
package: .venv/installed
	rm -rf dist .venv-extras
	$(BIN)/python -m build
	$(BIN)/python -m twine check --strict dist/*
	$(PYTHON) -m venv .venv-extras
	$(EXTRAS)/python -m pip install --quiet --no-compile dist/*.whl
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/package

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/installed
	$(BIN)/pyright

install: .venv/installed

.venv/installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("Python >= 3.10 is needed: make PYTHON=python3.12 ...") if sys.version_info < (3, 10) else None'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --no-compile --editable '.[dev]'
	touch $@

.venv-extras/installed: pyproject.toml
	test -x $(EXTRAS)/python || $(PYTHON) -m venv .venv-extras
	$(EXTRAS)/python -m pip install --quiet --no-compile --editable '.[dev-extras]'
	touch $@

clean:
	rm -rf .venv .venv-extras runs dist
