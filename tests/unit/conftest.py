"""Property tests have no deadline for one example: a busy machine is not a failure."""

from hypothesis import settings

settings.register_profile("slipstream", deadline=None)
settings.load_profile("slipstream")
