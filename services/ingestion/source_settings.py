"""Settings of a source, which Segment's browser SDK asks of its `cdnURL` before it sends."""

import re
from typing import Final

import orjson

# Name or address with a port, as `Host` has it.
_HOST: Final = re.compile(r"[\w.-]{1,253}(:\d{1,5})?|\[[0-9a-fA-F:.]{2,45}\](:\d{1,5})?", re.ASCII)


def source_settings(write_key: str, scheme: str, host: str) -> bytes:
    """The settings as JSON: one destination, ingestion at the address that was asked.

    So a page that names `cdnURL` alone sends here, not to Segment. The SDK's counts of its own
    calls are switched off. A `host` that is no name leaves the address to the page.

    Args:
        write_key: The page's write key.
        scheme: `http` or `https`.
        host: The request's `Host`.
    """
    destination = {"apiKey": write_key}
    if _HOST.fullmatch(host):
        destination |= {"apiHost": f"{host}/v1", "protocol": scheme}
    return orjson.dumps({"integrations": {"Segment.io": destination}, "metrics": {"sampleRate": 0}})
