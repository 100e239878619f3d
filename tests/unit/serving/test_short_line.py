"""The way of a plain request is short: few frames from route to kernel, few files on the way."""

import sys
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from slipstream.recommender.bundle import Bundle
from tests.unit.serving.app_on_fakes import make_app
from tests.unit.serving.fakes import FakeOnline, Setting, model, visitor
from tests.unit.serving.recorded.asking import answer, connected
from tests.unit.serving.recorded.random_requests import Sent

ROOT = Path(__file__).parents[3]
OURS = tuple(str(ROOT / name) for name in ("slipstream", "services"))


class Trip:
    """The calls of our own functions while it is noted.

    Attributes:
        files: The files whose functions were called.
        chains: For each function, by file and name, the most frames of ours that it was called
            through, itself among them, from an endpoint on.
    """

    def __init__(self) -> None:
        self.files: set[str] = set()
        self.chains: dict[str, int] = {}

    def note(self, frame: FrameType, event: str, _argument: Any) -> None:
        file = frame.f_code.co_filename
        if event != "call" or not file.startswith(OURS):
            return
        self.files.add(file)
        length, caller = 0, frame
        while caller is not None:
            if caller.f_code.co_filename.startswith(OURS):
                length += 1
                if Path(caller.f_code.co_filename).parent.name == "http":
                    outermost = length
            caller = caller.f_back  # type: ignore[assignment]
        name = f"{Path(file).stem}.{frame.f_code.co_name}"
        self.chains[name] = max(self.chains.get(name, 0), locals().get("outermost", length))


async def trip(bundle: Bundle, **headers: str) -> Trip:
    """A plain request's trip, when nothing is done for the first time any more."""
    setting = Setting(FakeOnline({"ada": visitor("item-03")}), model(bundle), kept_lists=10)
    noted = Trip()
    sent = Sent("GET", "/v1/recommendations/ada", {"host": "127.0.0.1", **headers}, b"")
    async with connected(make_app(setting)) as (reader, writer):
        for _ in range(2):
            await answer(reader, writer, sent)
        sys.setprofile(noted.note)
        try:
            _, _, body = await answer(reader, writer, sent)
        finally:
            sys.setprofile(None)
    assert '"answered_by":"model"' in body
    return noted


async def test_nine_frames_lead_from_the_route_to_the_kernel(bundle: Bundle) -> None:
    noted = await trip(bundle, **{"cache-control": "no-cache"})
    # A request waits for a list where it has asked for one, and the kernels are called from there.
    asking, answering = noted.chains["driving.recommend"], noted.chains["plan.recommend"]
    assert asking - 1 + answering <= 9


@pytest.mark.parametrize(("headers", "most"), [({}, 25), ({"cache-control": "no-cache"}, 33)])
async def test_a_plain_request_crosses_few_files(
    bundle: Bundle, headers: dict[str, str], most: int
) -> None:
    noted = await trip(bundle, **headers)
    assert len(noted.files) <= most, sorted(noted.files)
