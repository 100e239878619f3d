"""Random histories of a few visitors and items, with their positions in the stream."""

from math import isclose
from typing import Any

from hypothesis import strategies as st

from slipstream.contracts.events import Interaction
from slipstream.contracts.positions import StreamInteraction
from slipstream.contracts.times import DAY_MS, HOUR_MS

START = 1_790_000_000_000 // DAY_MS * DAY_MS
KINDS = ("view", "view", "click", "cart", "purchase", "search", "impression")


def placed(
    offset: int, at: int, *, user: str = "u", received: int | None = None, source: str = "t:0"
) -> StreamInteraction:
    return StreamInteraction(
        source,
        offset,
        Interaction(
            event_id=f"e{offset:03}",
            event_type="view",
            user_id=user,
            item_id=f"i{offset % 7}",
            timestamp=at,
            received_at=at if received is None else received,
        ),
    )


@st.composite
def histories(draw: st.DrawFn, sources: int = 1) -> list[StreamInteraction]:
    """Up to 40 events of two visitors on three items over two days, in order of receipt.

    Many are of the same moment, and up to 24 h late.
    """
    moments = st.one_of(st.integers(0, 3), st.integers(0, 2 * HOUR_MS), st.integers(0, 2 * DAY_MS))
    drawn = draw(
        st.lists(
            st.tuples(
                moments,
                st.integers(0, DAY_MS),
                st.sampled_from("uv"),
                st.sampled_from("abc"),
                st.sampled_from(KINDS),
                st.one_of(st.none(), st.floats(0, 10)),
                st.integers(0, sources - 1),
            ),
            min_size=1,
            max_size=40,
        )
    )
    records = []
    for offset, (at, late, user, item, kind, value, source) in enumerate(
        sorted(drawn, key=lambda each: each[0] + each[1])
    ):
        event = Interaction(
            event_id=f"e{offset % 5}",
            event_type=kind,
            user_id=user,
            item_id=None if kind == "search" else item,
            timestamp=START + at,
            received_at=START + at + late,
            value=value,
        )
        records.append(StreamInteraction(f"t:{source}", offset, event))
    return records


def by_visitor(records: list[StreamInteraction]) -> dict[str, list[StreamInteraction]]:
    """The records of each visitor, in the order given."""
    groups: dict[str, list[StreamInteraction]] = {}
    for record in records:
        groups.setdefault(record.interaction.user_id, []).append(record)
    return groups


def like(value: Any, due: Any) -> bool:
    """Equal, but for the rounding of sums of floats."""
    if isinstance(value, list | tuple):
        return len(value) == len(due) and all(
            like(one, other) for one, other in zip(value, due, strict=True)
        )
    if isinstance(value, float) or isinstance(due, float):
        return isclose(value, due, rel_tol=1e-7, abs_tol=1e-9)
    return bool(value == due)
