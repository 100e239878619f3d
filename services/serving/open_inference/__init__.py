"""The Open Inference Protocol, version 2: recommendations as tensors, for its own clients."""
