"""The slates that monitoring keeps of a visitor, and what followed from them."""

from typing import Final

import orjson
from pydantic import BaseModel, Field
from sqlalchemy import Engine, func, select

from services.monitoring.slate_tables import responses, slates

MOST_SLATES: Final = 200


class SeenItem(BaseModel):
    """An item of a slate. `clicked_at` is when the visitor first responded to it (ms).

    `position` and `source` are null where only the set of items is kept.
    """

    item_id: str
    source: str | None = None
    position: int | None = None
    clicked_at: int | None = None


class SeenSlate(BaseModel):
    """A slate that a visitor was shown at `at` (ms)."""

    recommendation_id: str
    at: int
    placement: str
    model_version: str
    experiment: str
    variant: str
    items: list[SeenItem]


class SeenSlates(BaseModel):
    """Slates of a visitor, newest first."""

    items: list[SeenSlate] = Field(description="those that retention has left")


def slates_of(engine: Engine, visitor_id: str, limit: int) -> list[SeenSlate]:
    """The newest slates of a visitor, at most `limit`, with what was clicked in them."""
    s, r = slates.c, responses.c
    newest = (
        select(s.recommendation_id, s.timestamp, s.placement, s.model_version)
        .add_columns(s.experiment, s.variant, s["items"])
        .where(s.user_id == visitor_id)
        .order_by(s.timestamp.desc(), s.recommendation_id)
        .limit(limit)
    )
    with engine.connect() as db:
        rows = db.execute(newest).all()
        ids = [row.recommendation_id for row in rows]
        clicked = (
            select(r.attributed, r.item_id, func.min(r.timestamp))
            .where(r.attributed.in_(ids))
            .group_by(r.attributed, r.item_id)
        )
        first = {(slate, item): at for slate, item, at in db.execute(clicked)} if ids else {}
    return [
        SeenSlate(
            recommendation_id=row.recommendation_id,
            at=row.timestamp,
            placement=row.placement or "",
            model_version=row.model_version,
            experiment=row.experiment or "",
            variant=row.variant or "",
            items=[
                SeenItem(item_id=item, clicked_at=first.get((row.recommendation_id, item)))
                for item in sorted(orjson.loads(row._mapping["items"]))
            ],
        )
        for row in rows
    ]
