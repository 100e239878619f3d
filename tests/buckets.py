"""An S3 of the tests' own: moto's server, where installed (pip install 'moto[server]')."""

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import httpx
import pytest

from slipstream.chassis.settings import LakeSettings
from slipstream_cli.local.processes import free_port

MOTO: Final = shutil.which("moto_server", path=str(Path(sys.executable).parent)) or shutil.which(
    "moto_server"
)
WITHOUT_MOTO: Final = "moto_server is not installed: pip install 'moto[server]'"
needs_moto = pytest.mark.skipif(MOTO is None, reason=WITHOUT_MOTO)


@contextmanager
def s3_server(bucket: str) -> Iterator[dict[str, str]]:
    """A server with an empty bucket; gives the storage options by which delta-rs reaches it."""
    port = free_port()
    server = subprocess.Popen(
        [str(MOTO), "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                httpx.put(f"{url}/{bucket}").raise_for_status()
                break
            except httpx.HTTPError:
                assert time.monotonic() < deadline, "moto did not start"
                time.sleep(0.1)
        yield {
            "AWS_ENDPOINT_URL": url,
            "AWS_ALLOW_HTTP": "true",
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
        }
    finally:
        server.kill()
        server.wait()


@contextmanager
def running_bucket() -> Iterator[LakeSettings]:
    """An empty bucket for a lake, for the block; its server keeps it in memory."""
    with s3_server("history") as options:
        yield LakeSettings(uri="s3://history/lake", storage_options=options)
