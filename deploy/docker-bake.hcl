# The five images for amd64 and arm64, with bills of materials and provenance, into a registry:
#
#   REGISTRY=registry.example.com/slipstream TAG=0.3.0 CODE_COMMIT=$(git rev-parse HEAD) \
#     docker buildx bake -f deploy/docker-bake.hcl --push
#
# From the repository's root, with a builder that has both platforms (docker buildx create --use; QEMU, or a node of each kind).
# `--set '*.platform=linux/amd64' --load` builds one of them into the local engine, without the attestations.

variable "REGISTRY" { default = "slipstream" }
variable "TAG" { default = "local" }
variable "CODE_COMMIT" { default = "" }
variable "PIP_INDEX_URL" { default = "" }
variable "PIP_EXTRA_INDEX_URL" { default = "" }
# PyTorch's builds for CUDA 13: https://download.pytorch.org/whl/cu130
variable "TORCH_INDEX_URL" { default = "https://download.pytorch.org/whl/cpu" }

group "default" {
  targets = ["services"]
}

target "services" {
  name       = service
  matrix     = { service = ["ingestion", "features", "training", "serving", "monitoring"] }
  context    = "."
  platforms  = ["linux/amd64", "linux/arm64"]
  tags       = ["${REGISTRY}/${service}:${TAG}"]
  attest     = ["type=sbom", "type=provenance,mode=max"]
  args = {
    SERVICE             = service
    VERSION             = TAG
    CODE_COMMIT         = CODE_COMMIT
    PIP_INDEX_URL       = PIP_INDEX_URL
    PIP_EXTRA_INDEX_URL = PIP_EXTRA_INDEX_URL
    TORCH_INDEX_URL     = TORCH_INDEX_URL
  }
}
