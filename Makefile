# Needs Python 3.11 or newer and make; everything else is installed into .venv.
PYTHON ?= python3
BIN := .venv/bin

# What the bundle is built for; an interpreter of that version must be here.
RUNTIME ?= $(shell $(BIN)/python -c 'import sys; print("python%d.%d" % sys.version_info[:2])')
AWS_VENVS := .venv-aws/.ready .venv-sam/.ready .venv-lambda/.ready

.PHONY: demo test test-slow lint types clean soak bench build deploy-local events

demo: .venv/.demo  ## run a federation of three organisations on this machine
	$(BIN)/gramian demo

test: .venv/.dev $(AWS_VENVS)  ## run the test suite
	$(BIN)/python -m pytest -n auto -m "not slow and not soak"

test-slow: .venv/.dev $(AWS_VENVS)  ## run the tests that take long
	$(BIN)/python -m pytest -n auto -m "slow and not soak"

build: .venv/.dev .venv-sam/.ready  ## build the serverless bundle into .aws-sam, for RUNTIME
	PATH="$(CURDIR)/$(BIN):$$PATH" RUNTIME=$(RUNTIME) SAM_CLI_TELEMETRY=0 \
	  .venv-sam/bin/sam build --parallel --parameter-overrides Runtime=$(RUNTIME)

deploy-local: build .venv-aws/.ready  ## deploy it to an emulator on this machine, until Ctrl-C
	$(BIN)/python tests/aws/bundle.py

events: .venv/.dev  ## write functions/*/event.json
	$(BIN)/python functions/events.py

lint: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/.dev
	$(BIN)/mypy

clean:
	rm -rf .venv $(AWS_VENVS:/.ready=) .aws-sam

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

# Nothing but Lambda's runtime client: what else a function needs it has to bring.
.venv-lambda/.ready: Makefile | .venv  ## runs single functions as Lambda does
	$(PYTHON) -m venv .venv-lambda
	.venv-lambda/bin/python -m pip install --quiet 'awslambdaric==4.2.2'
	@touch $@

soak: .venv/.dev  ## run the endless tests: a thousand rounds of redemptions, then chaos with one seed after the other
	$(BIN)/python -m pytest -m soak
	@seed=$$(date +%s); while echo "GRAMIAN_CHAOS_SEED=$$seed"; do \
	  GRAMIAN_CHAOS_SEED=$$seed GRAMIAN_CHAOS_STEPS=$${GRAMIAN_CHAOS_STEPS:-3000} \
	    $(BIN)/python -m pytest -q tests/e2e/test_chaos.py::test_federation_survives_chaos || exit 1; \
	  seed=$$((seed + 1)); \
	done

bench: .venv/.dev  ## measure speed against bare work, about 8 minutes; BENCH=--write updates benchmarks/README.md
	$(BIN)/python -m benchmarks $(BENCH)
