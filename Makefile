# Needs Python 3.11 or newer and make; everything else is installed into .venv.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-slow lint types clean soak bench

demo: .venv/.demo  ## run a federation of three organisations on this machine
	$(BIN)/gramian demo

test: .venv/.dev .venv-aws/.ready .venv-sam/.ready  ## run the test suite
	$(BIN)/python -m pytest -n auto -m "not slow and not soak"

test-slow: .venv/.dev .venv-aws/.ready .venv-sam/.ready  ## run the tests that take long
	$(BIN)/python -m pytest -n auto -m slow

lint: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/.dev
	$(BIN)/mypy

clean:
	rm -rf .venv .venv-aws .venv-sam

.venv/.demo: pyproject.toml | .venv
	$(BIN)/python -m pip install --quiet --editable '.[demo]'
	@touch $@

.venv/.dev: pyproject.toml | .venv
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@ .venv/.demo

.venv:
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv

# Each pins its own botocore, hence an environment of its own.
.venv-aws/.ready: Makefile | .venv  ## the AWS emulator of the tests
	$(PYTHON) -m venv .venv-aws
	.venv-aws/bin/python -m pip install --quiet 'ministack[full]==1.5.33'
	@touch $@

.venv-sam/.ready: Makefile | .venv  ## sam and cfn-lint
	$(PYTHON) -m venv .venv-sam
	.venv-sam/bin/python -m pip install --quiet 'aws-sam-cli==1.170.0' 'cfn-lint==1.58.0'
	@touch $@

soak: .venv/.dev  ## run the endless tests: a thousand rounds of redemptions, then chaos with one seed after the other
	$(BIN)/python -m pytest -m soak
	@seed=$$(date +%s); while echo "GRAMIAN_CHAOS_SEED=$$seed"; do \
	  GRAMIAN_CHAOS_SEED=$$seed GRAMIAN_CHAOS_STEPS=$${GRAMIAN_CHAOS_STEPS:-3000} \
	    $(BIN)/python -m pytest -q tests/e2e/test_chaos.py::test_federation_survives_chaos || exit 1; \
	  seed=$$((seed + 1)); \
	done

bench: .venv/.dev  ## measure speed against bare work, about 4 minutes; BENCH=--write updates benchmarks/README.md
	$(BIN)/python -m benchmarks $(BENCH)
