"""Random interactions of one visitor or item."""

from hypothesis import strategies as st

from slipstream.contracts.events import Interaction
from slipstream.contracts.times import DAY_MS

START = 1_790_000_000_000


@st.composite
def interactions(draw: st.DrawFn) -> Interaction:
    kind = draw(
        st.sampled_from(
            ["view", "click", "cart", "purchase", "search", "impression", "rate", "custom_1"]
        )
    )
    return Interaction(
        event_id=draw(st.text("abc", min_size=1, max_size=3)),
        event_type=kind,
        user_id="u",
        item_id=None if kind == "search" else draw(st.sampled_from(["a", "b", "ü", "c:1"])),
        timestamp=START
        + draw(st.one_of(st.integers(0, 20), st.integers(0, DAY_MS), st.integers(0, 40 * DAY_MS))),
        received_at=START + 40 * DAY_MS,
        value=draw(st.one_of(st.none(), st.floats(-1e6, 1e6))),
    )


def event(
    at: int, item: str | None = "a", kind: str = "view", value: float | None = None
) -> Interaction:
    return Interaction(
        event_id="e",
        event_type=kind,
        user_id="u",
        item_id=item,
        timestamp=at,
        received_at=at,
        value=value,
    )
