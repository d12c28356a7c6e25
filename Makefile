# Two commands: `make rehearsal` and `make test`. Both set up what they need first, on a fresh Debian 12.

PYTHON ?= /usr/bin/python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.requirements
REHEARSAL := reports/rehearsal
# The lab's own site file is named: the checkout may have a site.toml, and that is of a cloud which isn't there to be tried on.
REHEARSED := --site=/var/lib/ovnshift-lab/site/site.toml --change=rehearsal
APT_PACKAGES := $(shell sed -e '/^\#/d' -e '/^$$/d' requirements/apt.txt)

.PHONY: help setup rehearsal test check unit bench torture lock clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP) ## apt and pip packages, .venv

# Only what is missing is installed, so that this is quick the second time and works without a network then.
$(STAMP): requirements/apt.txt requirements/requirements.txt
	@missing=$$(dpkg-query --show --showformat='$${db:Status-Status} $${Package}\n' $(APT_PACKAGES) 2>&1 | awk '$$1 != "installed"'); \
	if [ -n "$$missing" ]; then \
	    if [ "$$(id -u)" -ne 0 ]; then echo "packages are missing and only root can install them: sudo make setup" >&2; exit 1; fi; \
	    apt-get -o Acquire::Retries=3 -q update && \
	    DEBIAN_FRONTEND=noninteractive apt-get -o Acquire::Retries=3 -q -y --no-install-recommends install $(APT_PACKAGES); \
	fi
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements/requirements.txt
	touch $@

rehearsal: $(STAMP) ## a LinuxBridge cloud on this machine, migrated to OVN: pre, the window, post, and their reports
	@if [ -e $(REHEARSAL)/journal.sqlite ] && [ -e /sys/class/net/ovnlab0 ]; then \
	    $(BIN)/python -m lab reset; else $(BIN)/python -m lab up; fi
	@if [ -e $(REHEARSAL) ]; then mv $(REHEARSAL) $(REHEARSAL)-until-$$(date -u +%Y%m%dT%H%M%SZ); fi
	$(BIN)/pytest -m pre $(REHEARSED)
	$(BIN)/pytest tests_migrate $(REHEARSED)
	$(BIN)/pytest tests_post $(REHEARSED)
	@echo "Reports: $(REHEARSAL)/pre.html, migrate.html and post.html."
	@echo "The lab stays up, on OVN now: python -m lab status; reset makes it as it was, down removes it."

check: $(STAMP) ## lint, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# They wait more than they compute.
UNIT := $(BIN)/pytest tests/unit --numprocesses=4 --dist=worksteal

unit: $(STAMP) ## the tests that need no lab
	$(UNIT)

test: check ## all of the suite's own tests, on a lab that they bring up and take down
	$(UNIT) --durations=15 --junit-xml=reports/test-unit.xml
	# One builds on the other: after a few failures the rest is not worth its time.
	$(BIN)/pytest tests/lab --maxfail=4 --durations=15 --junit-xml=reports/test.xml

bench: $(STAMP) ## speed, as ratios against named alternatives (installs fping)
	@command -v fping >/dev/null || DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends install fping
	$(BIN)/python -m bench.sweep
	$(BIN)/python -m bench.memory
	$(BIN)/python -m bench.conversion

torture: $(STAMP) ## the window on the lab killed before, during and after every step: takes hours
	$(BIN)/python -m tests.torture

lock: $(STAMP) ## pin what requirements.in asks for, with hashes
	$(BIN)/python -m venv $(VENV)/lock
	$(VENV)/lock/bin/pip install --quiet 'pip-tools==7.6.2'
	$(VENV)/lock/bin/pip-compile --quiet --generate-hashes --strip-extras --no-emit-index-url --no-emit-find-links \
	    --no-emit-options --no-header --output-file requirements/requirements.txt requirements/requirements.in

clean: ## the lab and the virtual environment; the cached image stays
	if [ -x $(BIN)/python ]; then $(BIN)/python -m lab down; fi
	rm -rf $(VENV) .hypothesis .mypy_cache .pytest_cache .ruff_cache
