"""Small worlds of slates and responses in which slates overlap, windows end, and named slates may
not exist.
"""

from hypothesis import strategies as st

from services.monitoring.attribution import Response, ShownSlate
from tests.unit.monitoring.builders import T0, WINDOW_MS

_USERS = st.sampled_from(["u1", "u2"])
_ITEMS = "abcd"
_TIMES = st.one_of(st.integers(0, 10), st.integers(WINDOW_MS - 5, WINDOW_MS + 15)).map(
    lambda at: T0 + at
)


@st.composite
def traffic(draw: st.DrawFn) -> tuple[list[ShownSlate], list[Response]]:
    """Slates and responses, each with an id of its own."""
    slates = [
        ShownSlate(
            f"s{number}",
            draw(_USERS),
            draw(_TIMES),
            draw(st.sampled_from(["model", "trending"])),
            draw(st.sampled_from(["1", "2"])),
            frozenset(draw(st.sets(st.sampled_from(_ITEMS)))),
        )
        for number in range(draw(st.integers(0, 6)))
    ]
    named = st.one_of(st.none(), st.none(), st.sampled_from(["s0", "s1", "s2", "unknown"]))
    responses = [
        Response(
            f"e{n}",
            draw(_USERS),
            draw(st.sampled_from(_ITEMS)),
            draw(_TIMES),
            draw(st.booleans()),
            draw(named),
        )
        for n in range(draw(st.integers(0, 10)))
    ]
    return slates, responses
