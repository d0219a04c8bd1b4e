# make demo   compares seven ways to train one network on real digits, and says in words what helped
# make test   runs all tests
# Both make the virtual environment .venv on first use; PYTHON=python3.12 chooses another interpreter.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint types install clean

demo: .venv/installed
	$(BIN)/codistill compare --data digits --train-subset 200 --validation 0.2 --model resnet8_tiny --epochs 40 \
	  --batch-size 20 --optim.lr 0.05 --optim.schedule cosine --device cpu --seeds 3 --out runs/demo \
	  --methods ind dml okddip okddip,group=branches kdcl_minlogit kdcl_minlogit,icl=true

test: .venv/installed
	$(BIN)/python -m pytest

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/installed
	$(BIN)/pyright

install: .venv/installed

.venv/installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("Python >= 3.10 is needed: make PYTHON=python3.12 ...") if sys.version_info < (3, 10) else None'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv runs
