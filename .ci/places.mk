# Places outside the checkout, for the Makefile and .ci/run: the only file that names them. Each is
# a variable that the environment may set. Its default is the first place that is there, and empty
# where none is: whatever needs it then says so.

# Folder where Apache Kafka was unpacked, with libs/ below it (kafka.apache.org/downloads).
KAFKA_HOME ?= $(firstword $(wildcard /opt/kafka $(abspath ../shared/kafka)))

# Program that starts a cluster for `make cluster-demo`, where KUBECONFIG names none
# (deploy/README.md).
CLUSTER_PROGRAM ?= $(firstword $(wildcard $(abspath ../shared/k8s/cluster)))

# Program that validates files of Kubernetes manifests offline, for `make manifests`.
VALIDATOR ?= $(wildcard $(abspath ../shared/k8s/validate))

# Program that brings the images that services are built on into the Docker engine, for the demos
# where no registry is reached. It gets docker-compose.yml as its argument.
IMAGE_PROVIDER ?= $(wildcard $(abspath ../shared/compose/provide-images))

PLACES := KAFKA_HOME CLUSTER_PROGRAM VALIDATOR IMAGE_PROVIDER

.PHONY: places
places: ## Show the places outside the checkout, as a shell reads them
	@$(foreach place,$(PLACES),echo "$(place)='$($(place))'";)
