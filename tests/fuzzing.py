"""The number of bad requests that the fuzz tests send, and the telling of what was answered."""

import os
from collections import Counter

import pytest
from hypothesis import HealthCheck, settings

# The number that `make fuzz` sends of each kind; with the other tests a sample is sent.
_CASES = os.environ.get("FUZZ_CASES")


def many(sample: int) -> settings:
    """Hypothesis' settings: `FUZZ_CASES` examples, else a `sample` that is always the same."""
    return settings(
        max_examples=int(_CASES or sample),
        deadline=None,
        suppress_health_check=[*HealthCheck],
        derandomize=not _CASES,
    )


def tell(config: pytest.Config, requests: int, seen: Counter[str], more: str = "") -> None:
    """Print what was answered, the most frequent first, in a run of `make fuzz`.

    Args:
        config: pytest's configuration, which captures output until then.
        requests: The number of requests.
        seen: The answers, counted.
        more: What else there is to tell.
    """
    if _CASES:
        with config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
            print(f"\n{requests} requests: {dict(seen.most_common())}{more}")
