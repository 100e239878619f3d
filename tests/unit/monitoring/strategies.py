"""Small worlds of slates and responses in which slates overlap, windows end, and named slates may
not exist.
"""

from dataclasses import replace

from hypothesis import strategies as st

from services.monitoring.attribution import Response, ShownSlate
from tests.unit.monitoring.builders import T0, WINDOW_MS

EXPERIMENTS = ("calmer", "mixed")
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


@st.composite
def experiment_traffic(draw: st.DrawFn) -> tuple[list[ShownSlate], list[Response]]:
    """Traffic of which slates are in two experiments or none, and purchases have values."""
    slates, responses = draw(traffic())
    placed = []
    for slate in slates:
        experiment = draw(st.sampled_from(["", *EXPERIMENTS]))
        teams = draw(st.lists(st.sampled_from("ab"), min_size=4, max_size=4))
        made = slate._replace(
            experiment=experiment,
            variant=draw(st.sampled_from("ab")) if experiment else "",
            teams=tuple(zip(sorted(slate.items), teams, strict=False)),
            substituted=draw(st.sampled_from(["", "", "failed"])),
            latency_ms=draw(st.sampled_from([0.0, 1.25, 7.0])),
        )
        placed.append(made if experiment == "mixed" else made._replace(teams=()))
    paid = [
        replace(
            response,
            purchased=True,
            value=draw(st.sampled_from([None, 0.1, 12.9])),
            currency=draw(st.sampled_from(["", "EUR"])),
        )
        if response.converted and draw(st.booleans())
        else response
        for response in responses
    ]
    return placed, paid
