from contextlib import nullcontext
from pathlib import Path
from unittest.mock import Mock

import pytest
from click.testing import CliRunner

from slipstream_cli.__main__ import cli
from slipstream_cli.local import supervisor


def test_up_names_the_services_the_console_and_the_next_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "ForegroundStack", lambda *_, **__: nullcontext(Mock()))
    shown = CliRunner().invoke(cli, ["up", "--any-ports", "--data-dir", str(tmp_path)]).output
    (service,) = [line for line in shown.splitlines() if line.startswith("monitoring ")]
    page = service.split()[1].removesuffix("docs")
    assert f"Console: {page} " in shown
    assert f"Next: slipstream import ORDERS PRODUCTS --data-dir {tmp_path} " in shown
