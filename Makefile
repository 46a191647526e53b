# `make` lists the targets.
.DEFAULT_GOAL := help
.PHONY: help setup lock demo local test audit infra-check package licences soak kills interleave sabotage bench bench-million lint clean
SHELL := /bin/sh

VENV := .venv
SEEDS ?= 10000
# Of the tests. On two processors four are no faster: they wait for each other's browsers and hosts.
WORKERS ?= 2
PYTHON := $(VENV)/bin/python

# Microsoft's own runtime, to run our functions in: apart from the other packages, since nothing of ours may import it.
# It asks for a newer Python than it needs.
RUNTIME := infra/requirements/runtime.txt
RUNTIME_FOLDER := $(VENV)/functions-runtime

# The stamp of an installation carries a hash of what was to be installed, whatever git does to file times.
WANTED := $(shell cat requirements-dev.txt $(RUNTIME) | cksum | cut -d ' ' -f 1)
STAMP := $(VENV)/.installed-$(WANTED)

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 22

setup: $(STAMP) ## install everything into .venv, .azurite and .browser; quick when nothing changed
	@$(PYTHON) -m tools.azurite install
	@$(PYTHON) -m tools.browser install

demo: setup ## run the demo; its arguments go into ARGS="..."
	@$(PYTHON) -m tools.demo $(ARGS)

local: setup ## run the functions here, with storage and both services emulated; until Ctrl-C
	@$(PYTHON) -m tools.local $(ARGS)

lint: setup ## ruff, mypy and the import rules
	@$(PYTHON) -m ruff check .
	@$(PYTHON) -m ruff format --check .
	@$(PYTHON) -m mypy
	@$(VENV)/bin/lint-imports

test: lint audit infra-check ## lint, audit and infra-check, then every test
	@$(PYTHON) -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

audit: setup ## known vulnerabilities of what is installed, where the database can be reached
	@$(PYTHON) -m tools.audit

infra-check: setup ## all about the deployment that can be checked without Azure
	@$(PYTHON) -m tools.infra_check

package: setup ## the package for Azure, as a zip in .package; its sizes and how fast it is imported
	@$(PYTHON) -m tools.package $(ARGS)

licences: setup ## write docs/licences.md: under what the dependencies may be used
	@$(PYTHON) -m tools.licences

lock: setup ## pin every package with its hashes; newer versions: ARGS=--upgrade
	@$(PYTHON) -m tools.lock $(ARGS)

soak: setup ## random histories against the rules; how many: SEEDS=10000
	@$(PYTHON) -m tests.simulation --seeds $(SEEDS)

kills: setup ## kill the hosts 50 times and check the result
	@$(PYTHON) -m tools.kills $(ARGS)

interleave: setup ## every interleaving up to the full bound; takes long
	@$(PYTHON) -m tests.interleavings --bound full $(ARGS)

sabotage: setup ## break the code on purpose; each change must turn a test red
	@$(PYTHON) -m tools.sabotage $(ARGS)

bench: setup ## measure calls, time, CPU, memory, storage; draw it and put it into the documents; an hour
	@$(PYTHON) -m bench.start
	@$(PYTHON) -m bench.layouts
	@$(PYTHON) -m bench.connection_map
	@for size in 10000 100000; do $(PYTHON) -m bench.first_load --opportunities $$size || exit; done
	@for size in 10000 100000; do $(PYTHON) -m bench.plan --opportunities $$size || exit; done
	@$(PYTHON) -m bench.tick
	@$(PYTHON) -m bench.telemetry
	@$(PYTHON) -m bench.compare
	@$(PYTHON) -m bench.pace
	@$(PYTHON) -m bench.pictures
	@$(PYTHON) -m bench.documents

bench-million: setup ## measure up to 1,000,000 opportunities; takes long: ARGS="--opportunities 10000"
	@$(PYTHON) -m bench.million $(ARGS)

clean: ## remove everything that was installed or cached
	rm -rf $(VENV) .azurite .browser .infra .package .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMP): | $(PYTHON)
	@started=$$(date +%s); \
	echo "Installing Python packages (only this once) ..."; \
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt && \
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --ignore-requires-python --no-deps --upgrade \
		--target $(RUNTIME_FOLDER) --require-hashes -r $(RUNTIME) && \
	$(PYTHON) -m tools.azurite install && \
	$(PYTHON) -m tools.browser install && \
	rm -f $(VENV)/.installed-* && touch $@ && \
	echo "Installed in $$(( $$(date +%s) - started )) s."

# azure-functions 1.x, which Azure runs Python 3.11 and 3.12 with, refuses newer ones.
$(PYTHON):
	@for python in python3.11 python3.12 python3; do \
		if $$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' 2>/dev/null; then \
			$$python -m venv $(VENV) && exit 0; \
			echo "$$python can't make a virtual environment; on Debian and Ubuntu: apt install python3-venv" >&2; \
			exit 1; \
		fi; \
	done; \
	echo "Python 3.11 or 3.12 is needed; python3 is $$(python3 --version 2>/dev/null || echo missing)." >&2; \
	exit 1
