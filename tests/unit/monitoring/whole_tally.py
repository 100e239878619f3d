"""How slates are counted when all is known at once."""

from collections.abc import Iterable

from services.monitoring.attribution import Outcome, Response, ShownSlate, Tally, join, outcome


def tally(slates: Iterable[ShownSlate], responses: Iterable[Response], window_ms: int) -> Tally:
    """The counts of all these slates and responses at once: what any way of counting them in pieces
    must arrive at.
    """
    by_id = {slate.recommendation_id: slate for slate in slates}
    by_event = {response.event_id: response for response in responses}
    following: dict[str, list[tuple[str, bool]]] = {}
    for event_id, target in join(by_id, by_event.values(), window_ms).items():
        if target is not None:
            following.setdefault(target, []).append(
                (by_event[event_id].item_id, by_event[event_id].converted)
            )
    result = Tally()
    for slate in by_id.values():
        result.add_slate(slate)
        result.add_change(slate, Outcome(), outcome(following.get(slate.recommendation_id, ())))
    return result
