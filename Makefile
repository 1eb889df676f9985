# Needs Python 3.11 or newer and make; each target makes the virtual environment that it uses.
# Most of what the tests' environment holds is never imported, so it is not compiled as it is
# installed; what the tests import is, once, as they are collected.
PYTHON ?= python3
VENV := .venv
ifeq ($(OS),Windows_NT)
BIN := Scripts
else
BIN := bin
endif
SCHEMA = $(VENV)/test/$(BIN)/check-jsonschema --quiet --builtin-schema
MINUTES ?= 10
# Each process that runs tests compiles them, unless one has before.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help demo test test-server stress lint matrix bench soak docs dist release clean
.DEFAULT_GOAL := help

help:
	@echo "make demo         a demonstration on Milvus Lite: two connections, a collection, a search"
	@echo "make test         every test, against Milvus Lite and real Milvus servers"
	@echo "make test-server  the tests that need one Milvus server, on the server at ZILLIZ_TEST_URI"
	@echo "make stress       forks, interrupts and outages at random times; a failure prints the seed"
	@echo "make lint         ruff, mypy for Linux, Windows and macOS, schemas of workflows, phrases in pages"
	@echo "make matrix       the tests with old and new pymilvus, LangChain, LlamaIndex, Haystack"
	@echo "make bench        benchmarks against pymilvus and against the minimum of work"
	@echo "make soak         load with random faults, for MINUTES=10"
	@echo "make docs         the documentation site, in build/site"
	@echo "make dist         the wheel and the source distribution, in build/dist"
	@echo "make release      the same for a release, if everything is ready for TAG=v1.2.3"
	@echo "make clean        remove the files that these targets made"

demo: $(VENV)/demo/.made
	@cd examples/quickstart && ../../$(VENV)/demo/$(BIN)/python quickstart.py

test: $(VENV)/test/.made
	$(VENV)/test/$(BIN)/python -m pytest --numprocesses 6 \
		--dist loadfile --no-loadscope-reorder --max-worker-restart 0

# Where it listens: ZILLIZ_TEST_URI=http://localhost:19530
test-server: $(VENV)/test/.made
	$(VENV)/test/$(BIN)/python -m pytest -m 'server and not stress' --numprocesses 2 --dist loadfile

# The seed that a failure prints repeats the moments: make stress SEED=1
stress: $(VENV)/test/.made
	$(SEED:%=STRESS_SEED=%) $(VENV)/test/$(BIN)/python -m pytest -m stress --numprocesses 2 \
		--dist loadfile --max-worker-restart 0

lint: $(VENV)/test/.made
	$(VENV)/test/$(BIN)/ruff check .
	$(VENV)/test/$(BIN)/ruff format --check .
	$(VENV)/test/$(BIN)/mypy
	$(VENV)/test/$(BIN)/mypy --platform win32 --cache-dir .mypy_cache/win32 zconfig
	$(VENV)/test/$(BIN)/mypy --platform darwin --cache-dir .mypy_cache/darwin zconfig
	$(SCHEMA) vendor.github-workflows .github/workflows/*.yml
	$(SCHEMA) custom.github-workflows-require-timeout .github/workflows/*.yml
	$(SCHEMA) vendor.github-issue-config .github/ISSUE_TEMPLATE/config.yml
	$(SCHEMA) vendor.github-issue-forms .github/ISSUE_TEMPLATE/bug.yml .github/ISSUE_TEMPLATE/idea.yml
	$(SCHEMA) vendor.citation-file-format CITATION.cff
	$(VENV)/test/$(BIN)/python scripts/prose.py

# All of it, and longer tests, by .venv/test/bin/nox; see noxfile.py.
matrix: matrix-interop matrix-frameworks

matrix-%: .nox/.made-%
	$(VENV)/test/$(BIN)/nox --tags ci-$* -R -- --quiet -m 'not long'

.PRECIOUS: .nox/.made-%
.nox/.made-%: pyproject.toml noxfile.py $(VENV)/test/.made
	$(VENV)/test/$(BIN)/nox --tags ci-$* --install-only
	@touch $@

# Leave the machine alone meanwhile.
bench: $(VENV)/bench/.made
	$(VENV)/bench/$(BIN)/python -m benchmarks

# The seed that it prints repeats the troubles: make soak SEED=1
soak: $(VENV)/test/.made
	$(VENV)/test/$(BIN)/python -m benchmarks.soak --minutes $(MINUTES) $(SEED:%=--seed %)

docs: $(VENV)/docs/.made
	NO_MKDOCS_2_WARNING=1 $(VENV)/docs/$(BIN)/python -m mkdocs build
	@echo "open build/site/index.html"

dist: $(VENV)/test/.made
	rm -rf build/dist
	$(VENV)/test/$(BIN)/python -m build --outdir build/dist
	$(VENV)/test/$(BIN)/python -m twine check --strict build/dist/*

# TAG=v1.2.3, of the version in zconfig/_version.py; the workflow `release` publishes what it makes.
release: $(VENV)/test/.made
	$(VENV)/test/$(BIN)/python scripts/check_release.py '$(TAG)'
	$(MAKE) dist

clean:
	rm -rf $(VENV) .nox build .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis examples/quickstart/*.db

$(VENV)/demo/.made: pyproject.toml
	$(call make_venv,demo)
	$(VENV)/demo/$(BIN)/python -m pip install --quiet --editable '.[lite]'
	@touch $@

$(VENV)/test/.made: pyproject.toml
	$(call make_venv,test)
	$(VENV)/test/$(BIN)/python -m pip install --quiet --no-compile --editable '.[all]' --group dev
	$(VENV)/test/$(BIN)/python -m pip install --quiet --no-compile --no-deps --group no-deps
	-@$(VENV)/test/$(BIN)/python -m pytest --collect-only --quiet >/dev/null
	@touch $@

$(VENV)/bench/.made: pyproject.toml
	$(call make_venv,bench)
	$(VENV)/bench/$(BIN)/python -m pip install --quiet --editable '.[all]' --group bench
	@touch $@

$(VENV)/docs/.made: pyproject.toml
	$(call make_venv,docs)
	$(VENV)/docs/$(BIN)/python -m pip install --quiet --editable . --group docs
	@touch $@

define make_venv
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed; set PYTHON=/path/to/python" >&2; exit 1; }
	@echo "making the environment $(VENV)/$(1)"
	@$(PYTHON) -m venv --clear $(VENV)/$(1)
	@$(VENV)/$(1)/$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
endef
