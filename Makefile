# Two commands are enough: `make run` and `make test`. CONTRIBUTING.md tells of the others.
# Variables: PYTHON (3.11 or later) makes the virtual environment, ARGS go to the tool at hand:
#   make test ARGS="tests/smtp -k pipelining"

PYTHON ?= python3
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input
COMPILE = $(VENV)/lock/bin/uv pip compile --quiet --upgrade --universal --python-version 3.11 \
	--generate-hashes --no-header --no-annotate --no-emit-index-url

.PHONY: install run test check bench bench-plugins bench-auth docs fuzz lock

install: $(VENV)/.installed

run: install
	$(BIN)/elemta serve $(ARGS)

test: $(VENV)/.installed-dev $(VENV)/scan/.installed $(VENV)/reports/.installed
	.ci/install-servers
	.ci/install-judges
	$(BIN)/python -m compileall -q src tests/servers  # for hundreds of servers
	$(BIN)/pytest -n auto --dist loadfile --no-loadscope-reorder $(ARGS)

check: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python docs/generate.py --check

bench: install
	$(BIN)/python -m bench $(ARGS)

# What plugins cost.
bench-plugins: install
	$(BIN)/python -m bench.plugins $(ARGS)

# What it costs to judge and to sign a message.
bench-auth: $(VENV)/.installed-dev
	$(BIN)/python -m bench.auth $(ARGS)

docs: install
	$(BIN)/python docs/generate.py

# Every input split and twisted, at length.
fuzz: $(VENV)/.installed-dev
	$(BIN)/pytest tests/fuzz --hypothesis-profile=fuzz --timeout=7200 $(ARGS)

# Renew requirements/*.txt: the newest releases that pyproject.toml allows, by their hashes; and
# what tests take from npm, as far as its package.json allows.
lock:
	$(PYTHON) -m venv $(VENV)/lock
	$(VENV)/lock/bin/python -m pip install --quiet --disable-pip-version-check uv
	$(COMPILE) pyproject.toml -o requirements/run.txt
	$(COMPILE) pyproject.toml --group test --group check -o requirements/dev.txt
	printf 'sslyze\n' | $(COMPILE) - -o requirements/scan.txt
	printf 'parsedmarc\n' | $(COMPILE) - -o requirements/reports.txt
	printf 'hatchling\neditables\n' | $(COMPILE) - -o requirements/build.txt
	rm -rf $(VENV)/lock
	cd tests/servers/node && rm -f package-lock.json && npm install --package-lock-only \
		--ignore-scripts --no-audit --no-fund --omit-lockfile-registry-resolved
	$(PYTHON) -c 'import json, pathlib, sys; file = pathlib.Path(sys.argv[1]); lock = json.loads(file.read_text()); [each.pop("funding", 0) for each in lock["packages"].values()]; file.write_text(json.dumps(lock, indent=2) + "\n")' tests/servers/node/package-lock.json

$(VENV)/pyvenv.cfg:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Elemta needs Python 3.11 or later; name one: make PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(VENV)/pyvenv.cfg requirements/run.txt requirements/build.txt pyproject.toml
	$(PIP) --require-hashes -r requirements/run.txt
	$(PIP) --require-hashes -r requirements/build.txt
	$(PIP) --no-build-isolation --no-deps --no-index -e .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed requirements/dev.txt
	$(PIP) --require-hashes -r requirements/dev.txt
	touch $@

# A scanner of TLS that wants other releases of our own libraries.
$(VENV)/scan/.installed: $(VENV)/pyvenv.cfg requirements/scan.txt
	$(PYTHON) -m venv $(VENV)/scan
	$(VENV)/scan/bin/python -m pip install --quiet --disable-pip-version-check --no-input \
		--require-hashes -r requirements/scan.txt
	touch $@

# A reader of DMARC reports, with much that we do not need.
$(VENV)/reports/.installed: $(VENV)/pyvenv.cfg requirements/reports.txt
	$(PYTHON) -m venv $(VENV)/reports
	$(VENV)/reports/bin/python -m pip install --quiet --disable-pip-version-check --no-input \
		--require-hashes -r requirements/reports.txt
	touch $@
