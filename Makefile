# Each target sets up .venv by itself, from pyproject.toml and the exact versions in constraints.txt.
# Needs python3 (3.11 or newer) with its venv module, and a network for pip; `make PYTHON=python3.12 test` picks another.

PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
DOCS_STAMP := .venv/.installed-docs
CLUSTER_STAMP := .venv/.installed-cluster
PIP := $(BIN)/python -m pip --disable-pip-version-check
# Compiled Python is kept, whatever the environment says: tests start some hundred processes.
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE=
# A file's tests stay together, or what they share is made once more; the last files are short.
BY_FILE := --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help venv demo test cluster check faults house mutants bench browser docs dist pictures pins clean

PACKAGE ?= undiffuse/diffusion
SAMPLE ?= 300
SEED ?= 0

help:
	@echo "make demo    train on real handwritten digits for 150 seconds, draw samples, and report how good they are"
	@echo "make test    all tests (5 to 6 minutes)"
	@echo "make cluster sampling and scoring on Ray, which it installs (70 MB): two actors on this machine (2 minutes)"
	@echo "make faults  kill, starve and mutate everything, and the slow statistical laws (16 minutes)"
	@echo "make check   lint, format, types and the fast laws"
	@echo "make house   files, lines of code, import circles, names defined twice, registries without a law"
	@echo "make mutants break the code of PACKAGE= in SAMPLE=300 places and count what TESTS= notice (an hour at most)"
	@echo "make bench   the overhead benchmark: fit, sample, import, memory"
	@echo "make browser run the example that samples in a browser; npm fetches onnxruntime-web (33 MB, once)"
	@echo "make docs    build the documentation site in docs/_build/html: its pages that are written by programs, links, examples"
	@echo "make dist    build the wheel and the source archive in dist/"
	@echo "make pictures draw the pictures of docs/systems again (two minutes)"
	@echo "make venv    only set up .venv (every other target does that too)"
	@echo "make pins    write constraints.txt from what .venv holds"
	@echo "make clean   remove .venv, caches, and what demo made"

venv: $(STAMP)

$(STAMP): pyproject.toml constraints.txt scripts/requirements.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "$(PYTHON) is older than 3.11 or absent; name another: make PYTHON=python3.12" >&2; exit 1; }
	@echo "Setting up .venv: PyTorch and the rest, a few hundred megabytes, a few minutes, once."
	@$(PYTHON) -m venv .venv || { echo "No venv module; on Debian: apt install python3-venv" >&2; exit 1; }
	@$(BIN)/python scripts/requirements.py > .venv/requirements.txt
	@$(PIP) install -q --prefer-binary --no-compile -c constraints.txt -r .venv/requirements.txt
	@$(PIP) install -q --no-deps --no-build-isolation --no-compile -e .
	@touch $@
	@echo "Set up."

demo: $(STAMP)
	@mkdir -p demo
	@$(BIN)/undiffuse train digits --out runs/digits --overwrite --budget 150s
	@$(BIN)/undiffuse sample runs/digits -n 64 --out demo/digits.png --overwrite
	@$(BIN)/undiffuse evaluate runs/digits --out demo/report --overwrite
	@echo "64 digits that nobody wrote: $(CURDIR)/demo/digits.png"
	@echo "how good they are, to open in a browser: $(CURDIR)/demo/report/report.html"
	@echo "draw, complete and score in the browser: $(BIN)/undiffuse serve runs"

test: $(STAMP)
	@echo "Running all tests, two at a time."
	@$(ONE_THREAD) $(BIN)/python -m pytest -n 2 $(BY_FILE)

cluster: $(CLUSTER_STAMP)
	@echo "Sampling and scoring on Ray, with two actors on this machine."
	@$(ONE_THREAD) $(BIN)/python -m pytest -m cluster tests/cli/test_on_ray.py

$(CLUSTER_STAMP): $(STAMP)
	@$(BIN)/python scripts/requirements.py cluster > .venv/requirements-cluster.txt
	@$(PIP) install -q --prefer-binary --no-compile -c constraints.txt -r .venv/requirements-cluster.txt
	@touch $@

faults: $(STAMP)
	@echo "Running the fault campaigns and the slow statistical laws, two at a time."
	@$(ONE_THREAD) $(BIN)/python -m pytest -n 2 --dist worksteal -m faults

check: $(STAMP)
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/pyright
	@$(BIN)/hadolint Dockerfile
	@$(ONE_THREAD) $(BIN)/python -m pytest -n 2 -m "not slow and not faults" tests/test_house.py tests/test_public.py tests/diffusion

house:
	@$(PYTHON) scripts/house.py

mutants: $(STAMP)
	@$(BIN)/python scripts/mutants.py $(PACKAGE) --sample $(SAMPLE) --seed $(SEED) $(if $(TESTS),--tests $(TESTS))

bench: $(STAMP)
	@$(BIN)/python benchmarks/overhead.py

browser: $(STAMP) examples/onnx_browser/node_modules
	@$(ONE_THREAD) $(BIN)/python -m pytest tests/exchange/test_onnx_browser.py

examples/onnx_browser/node_modules: examples/onnx_browser/package-lock.json
	@npm ci --silent --ignore-scripts --no-audit --no-fund --prefix examples/onnx_browser
	@touch $@

docs: $(DOCS_STAMP)
	@$(BIN)/python scripts/docs.py
	@echo "Building the site; the first time runs its examples, which takes six minutes of a processor."
	@$(ONE_THREAD) MPLBACKEND=agg $(BIN)/python -m sphinx -W --keep-going -q -b html -c docs . docs/_build/html
	@$(ONE_THREAD) $(BIN)/python -m pytest -q tests/test_site.py
	@echo "The site: $(CURDIR)/docs/_build/html/index.html"

$(DOCS_STAMP): $(STAMP)
	@$(BIN)/python scripts/requirements.py docs > .venv/requirements-docs.txt
	@$(PIP) install -q --prefer-binary --no-compile -c constraints.txt -r .venv/requirements-docs.txt
	@touch $@

dist: $(STAMP)
	@$(BIN)/python -m hatchling build -d dist
	@ls -l dist

pictures: $(STAMP)
	@$(BIN)/python docs/draw.py

pins: $(DOCS_STAMP) $(CLUSTER_STAMP)
	@$(PIP) freeze --exclude-editable | sed 's/+.*//' > constraints.txt
	@touch $(STAMP)
	@echo "constraints.txt: $$(wc -l < constraints.txt) exact versions."

clean:
	rm -rf .venv dist demo docs/_build docs/gallery runs/digits .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
