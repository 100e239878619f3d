"""The repository of windows: samples are folded into sketches; and of sums of clicks.

A window that has ended is folded once, by the instance that judges. Its samples are deleted then;
what stays says nothing of single visitors.
"""

from collections.abc import Mapping
from typing import Final

import msgspec
from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    and_,
    delete,
    func,
    select,
    update,
)

from services.monitoring.click_trend import ClickSums
from services.monitoring.slate_tables import click_sums, samples, windows
from services.monitoring.windows import fold
from slipstream.evaluation.drift_findings import Window
from slipstream.stores.metadata import insert_new

# Windows that are folded at once, after a time without checks.
_AT_ONCE: Final = 100

_WINDOW: Final = msgspec.json.Decoder(Window)


def _add(db: Connection, window: Window, *, faulty: bool = False) -> None:
    """Keep a window, which is faulty, too, where one that overlaps it is."""
    row = {
        "length_ms": window.length_ms,
        "start": window.start,
        "version": window.version,
        "faulty": faulty
        or db.scalar(select(windows.c.start).where(windows.c.faulty, *_overlap(window)))
        is not None,
        "visitors": window.visitors,
        "body": msgspec.json.encode(window).decode(),
    }
    insert_new(db, windows, [row])


def _overlap(window: Window) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    end = window.start + window.length_ms
    return windows.c.start < end, windows.c.start + windows.c.length_ms > window.start


class WindowLog:
    """The windows, in SQL. Any thread may read; one thread at a time folds."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def fold(self, length_ms: int, until: int, catalogue: int | None) -> list[Window]:
        """Fold the windows of a length that ended until then, oldest first, and return them.

        Windows without a slate are folded, too, once there is an earlier one. The very first was
        begun in the middle, and so was the first one with a model: they are no references. Samples
        that came too late are deleted.
        """
        folded = []
        for start in self._due(length_ms, until):
            mine = and_(samples.c.length_ms == length_ms, samples.c.start == start)
            with self._engine.begin() as db:
                rows = db.execute(
                    select(samples.c.visitor, samples.c.share, samples.c.body).where(mine)
                )
                window = fold(start, length_ms, (tuple(row) for row in rows), catalogue)
                versions = select(windows.c.version).where(windows.c.length_ms == length_ms)
                known = db.scalars(versions.distinct()).all()
                _add(db, window, faulty=not known or (window.version != "" and not any(known)))
                earlier = samples.c.length_ms == length_ms, samples.c.start <= start
                db.execute(delete(samples).where(*earlier))
            folded.append(window)
        return folded

    def add(self, window: Window) -> None:
        """Keep a window; nothing where there is one of its length and time."""
        with self._engine.begin() as db:
            _add(db, window)

    def _due(self, length_ms: int, until: int) -> list[int]:
        of_length = windows.c.length_ms == length_ms, samples.c.length_ms == length_ms
        with self._engine.connect() as db:
            last = db.scalar(select(func.max(windows.c.start)).where(of_length[0]))
            first = db.scalar(select(func.min(samples.c.start)).where(of_length[1]))
        begin = first if last is None else last + length_ms
        if begin is None:
            return []
        end = until - length_ms
        if first is not None and (end - begin) // length_ms > _AT_ONCE:
            begin = max(begin, first)  # nothing was read for long: empty windows say nothing
        return list(range(begin, end + 1, length_ms))[:_AT_ONCE]

    def newest(self, length_ms: int, number: int) -> list[Window]:
        """The newest windows of a length, newest first."""
        query = (
            select(windows.c.body)
            .where(windows.c.length_ms == length_ms)
            .order_by(windows.c.start.desc())
            .limit(number)
        )
        with self._engine.connect() as db:
            return [_WINDOW.decode(body) for body in db.scalars(query)]

    def references(
        self, window: Window, least_visitors: int, season_ms: int, day_ms: int | None = None
    ) -> dict[str, Window]:
        """Windows without a fault, and with enough visitors, at like moments.

        `season` is the newest of whole seasons before, and `first` the first one of the model
        version. Where there is no `season`, `day` is the one of `day_ms` before.

        Args:
            season_ms: Time from one like moment to the next, such as a week.
            day_ms: The time to fall back on; None for none.
        """
        w, at = windows.c, window.start
        sound = (
            w.length_ms == window.length_ms,
            w.faulty.is_(False),
            w.start < at,
            w.visitors >= least_visitors,
        )
        like = (*sound, (at - w.start) % season_ms == 0)
        newest = select(w.body).where(*like).order_by(w.start.desc())
        first = select(w.body).where(*like, w.version == window.version).order_by(w.start)
        queries = {"season": newest} | ({"first": first} if window.version else {})
        found: dict[str, Window] = {}
        with self._engine.connect() as db:
            for name, query in queries.items():
                body = db.scalar(query.limit(1))
                if body is not None:
                    found[name] = _WINDOW.decode(body)
            if "season" not in found and day_ms is not None:
                body = db.scalar(select(w.body).where(*sound, w.start == at - day_ms))
                if body is not None:
                    found["day"] = _WINDOW.decode(body)
        if "first" in found and found["first"] == found.get("season"):
            del found["first"]
        return found

    def adopt(self, window: Window, least_visitors: int, after_ms: int) -> None:
        """Take what was a fault for that long, up to this window, for the new normal state.

        Its windows become references, and earlier ones are none any more.
        """
        w = windows.c
        sound = select(func.max(w.start)).where(
            w.length_ms == window.length_ms,
            w.faulty.is_(False),
            w.start < window.start,
            w.visitors >= least_visitors,
        )
        with self._engine.begin() as db:
            last = db.scalar(sound)
            if last is not None and window.start - last > after_ms:
                db.execute(update(windows).values(faulty=w.start < last + window.length_ms))

    def mark_faulty(self, window: Window) -> None:
        """Let this window, and all that overlap it, be no references."""
        with self._engine.begin() as db:
            db.execute(update(windows).where(*_overlap(window)).values(faulty=True))

    def add_clicks(self, length_ms: int, start: int, found: Mapping[str, ClickSums]) -> None:
        """Keep the sums of a period by placement; nothing where there are some."""
        # Without any slate, a row without a placement shows that the period was looked at.
        rows = [
            {"length_ms": length_ms, "start": start, "placement": name, **sums._asdict()}
            for name, sums in (found or {"": ClickSums()}).items()
        ]
        with self._engine.begin() as db:
            insert_new(db, click_sums, rows)

    def clicks(self, length_ms: int, since: int) -> dict[tuple[int, str], ClickSums]:
        """The sums of the periods that began since a time (ms), by start and placement."""
        c = click_sums.c
        query = select(click_sums).where(c.length_ms == length_ms, c.start >= since)
        with self._engine.connect() as db:
            return {(row.start, row.placement): ClickSums(*row[3:]) for row in db.execute(query)}

    def expire(self, *, before: int, samples_before: int) -> None:
        """Delete windows and sums that began before a time (ms), and samples before another.

        Samples of a length that is no longer folded would stay.
        """
        with self._engine.begin() as db:
            db.execute(delete(samples).where(samples.c.start < samples_before))
            for table in (windows, click_sums):
                db.execute(delete(table).where(table.c.start < before))
