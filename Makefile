# Needs Python 3.11 or newer and make; each target makes the virtual environment that it uses.
PYTHON ?= python3
VENV := .venv

.PHONY: help demo test lint bench clean
.DEFAULT_GOAL := help

help:
	@echo "make demo    the main job on Milvus Lite: two connections, a collection, a search"
	@echo "make test    every test, against Milvus Lite and real Milvus servers"
	@echo "make lint    ruff and mypy"
	@echo "make bench   what reading the configuration costs, as ratios"
	@echo "make clean   remove what these made"

demo: $(VENV)/demo/.made
	@cd examples/quickstart && ../../$(VENV)/demo/bin/python quickstart.py

test: $(VENV)/test/.made
	$(VENV)/test/bin/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile

lint: $(VENV)/test/.made
	$(VENV)/test/bin/ruff check .
	$(VENV)/test/bin/ruff format --check .
	$(VENV)/test/bin/mypy

bench: $(VENV)/test/.made
	$(VENV)/test/bin/python benchmarks/settings_cost.py

clean:
	rm -rf $(VENV) .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis examples/quickstart/*.db

$(VENV)/demo/.made: pyproject.toml
	$(call make_venv,demo)
	$(VENV)/demo/bin/python -m pip install --quiet --editable '.[lite]'
	@touch $@

$(VENV)/test/.made: pyproject.toml
	$(call make_venv,test)
	$(VENV)/test/bin/python -m pip install --quiet --editable '.[all]' --group dev
	@touch $@

define make_venv
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed; set PYTHON=/path/to/python" >&2; exit 1; }
	@echo "making the environment $(VENV)/$(1)"
	@$(PYTHON) -m venv --clear $(VENV)/$(1)
	@$(VENV)/$(1)/bin/python -m pip install --quiet --upgrade 'pip>=25.1'
endef
