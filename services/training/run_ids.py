"""Ids of runs and of the work that several of them attempt."""

import secrets
from datetime import UTC, datetime

from slipstream.contracts.rest import Run


def work_of(run: Run) -> str:
    """The id that all attempts at the same work share: that of the first run."""
    return run.resumes or run.run_id


def new_run_id() -> str:
    """A new id: the time and a random part, so that ids sort by time and none is used twice.

    A run's model has it as its version.
    """
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"
