"""The programs that try connections tell open ports from closed ones, in Python and in a shell."""

import json
import subprocess
import sys

import pytest

from slipstream_cli.local.processes import free_port
from tests.cluster.parts.network import PYTHON, SHELL, arrows


@pytest.mark.parametrize(
    "program",
    [(sys.executable, "-c", PYTHON), ("bash", "-c", SHELL, "takes")],
    ids=["python", "shell"],
)
def test_a_program_tells_which_places_take_a_connection(
    program: tuple[str, ...], listening: int
) -> None:
    places = [f"127.0.0.1:{listening}", f"127.0.0.1:{free_port()}", f"127.0.0.1:{listening}"]
    done = subprocess.run([*program, *places], capture_output=True, check=True, timeout=30)
    assert json.loads(done.stdout) == [True, False, True]


def test_arrows_are_those_of_the_table_and_of_clients() -> None:
    found = set(arrows())
    assert {("serving", "training"), ("features", "redis"), ("client", "ingestion")} <= found
    assert not {("training", "serving"), ("training", "redis"), ("client", "training")} & found
    assert not [arrow for arrow in found if "stranger" in arrow]
