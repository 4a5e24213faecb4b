# The commands of this repository. `make` lists them.
SHELL := bash
.DEFAULT_GOAL := help

.PHONY: help demo up down bench soak storm poison reconnects interop console-test compose-test test test-rabbitmq4 check fmt lint doc docs deny fuzz ci

help: ## list the targets
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 24

demo: ## events through a real RabbitMQ to real receivers, with a summary that is checked
	@scripts/demo.sh run

up: ## keep the demo's set-up running in .demo/, to play with
	@scripts/demo.sh up

down: ## end what `make up` started
	@scripts/demo.sh down

# make soak MINUTES=10 [SEED=n] [ROUNDS=n] [LANES=n]; a failing round prints the seed that reproduces it.
MINUTES ?= 10
soak: ## faults drawn from a seed, for MINUTES=10, with a ledger at the end
	@scripts/soak.sh --minutes $(MINUTES) $(if $(SEED),--seed $(SEED)) $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(LANES),--lanes $(LANES))

# For `storm` and `poison`, LEADHOOK_BIN=FILE replaces the debug build, and RABBITMQ_ROOTFS=TREE this machine's
# RabbitMQ.
KILLS ?= 80
storm: ## both of two workers killed KILLS=80 times within two minutes, [REFUSE=60] s of them with a full jobs queue
	@scripts/soak.sh --storm --rounds $(KILLS) $(if $(REFUSE),--refuse $(REFUSE)) $(if $(SEED),--seed $(SEED))

WORKERS ?= 1
poison: ## messages that once did harm, each with good events behind it, for WORKERS=1
	@scripts/soak.sh --poison --workers $(WORKERS)

CUTS ?= 1000
reconnects: ## CUTS=1000 cuts of a worker's connections, and its memory, tasks and files after them (half an hour)
	@scripts/soak.sh --cuts $(CUTS)

# make bench [QUICK=1] [RUNS=n] ['CASES=drain,hanging targets']
bench: ## throughput, latency, isolation and recovery against their bars, on a private RabbitMQ: an hour, or ten minutes with QUICK=1
	@scripts/bench.sh $(if $(CASES),--cases '$(CASES)') $(if $(RUNS),--runs $(RUNS)) $(if $(QUICK),--quick)

interop: ## signatures against the verifiers of Python and JavaScript, and httpbin (installs them below target/)
	@scripts/interop.sh

console-test: ## the web console in headless Chromium: every page, every action, axe-core, screenshots (installs below target/)
	@scripts/console-browser.sh

compose-test: ## the image and docker-compose.yml in Docker or Podman: deliveries, three workers, restart, stop, confinement
	@scripts/compose-test.sh

# make test [FAST=1]
test: ## all tests, on private RabbitMQ nodes that they start and stop; FAST=1 for the inner loop
	@FAST=$(FAST) scripts/gate.sh test

test-rabbitmq4: ## all tests on RabbitMQ 4.0 and 4.3, from trees that are built first (as root, 500 MB)
	@scripts/gate.sh test4

check: ## formatting, lints, docs, licences: all but the tests
	@scripts/gate.sh fmt lint doc deny

fmt: ## check that everything is formatted
	@scripts/gate.sh fmt

lint: ## clippy, warnings are errors
	@scripts/gate.sh lint

doc: ## rustdoc, warnings are errors
	@scripts/gate.sh doc

docs: ## write the generated parts of docs/reference/ from the code
	@LEADHOOK_WRITE_DOCS=1 cargo test --locked --quiet --test it docs::generated

deny: ## licences, banned and vulnerable dependencies (needs cargo-deny)
	@scripts/gate.sh deny

fuzz: ## one minute of libFuzzer for each reader of bytes from outside (scripts/fuzz.sh SECONDS: longer)
	@scripts/fuzz.sh

ci: ## the steps of CI: install missing tools, then check and test
	@.ci/run
