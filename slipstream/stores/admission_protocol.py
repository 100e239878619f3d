"""Protocol of the script `admit.lua`: its codes, the arguments of a call, and the answer.

A call judges many requests. Its plan is a string with a code for each request, followed by a code
for each message of it; the answer has a code for each code of the plan. `admit.lua` gives the same
names to the same codes.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from slipstream.contracts import times

# Plan, a request: without a limit of its own; or with that of its write key, which is one key.
REQUEST: Final = b"R"
RATED_REQUEST: Final = b"K"
# Plan, a message: the keys to look at, an id, a visitor's rate, both in this order, or none.
NOTHING: Final = b"n"
ID: Final = b"i"
VISITOR: Final = b"v"
ID_AND_VISITOR: Final = b"b"
# Plan, before a message: it links a visitor to a user. One key holds the user's visitors of the
# hour. It has no code in the answer.
LINK: Final = b"l"
# Answer, a request: its messages are judged; or its write key's rate is exceeded, and none is.
ACCEPTED: Final = b"+"
REFUSED: Final = b"-"
# Answer, a message: its id is new; an attempt is under way or ended without an answer; it was
# acknowledged; its visitor's rate is exceeded; its user has too many visitors; its write key's rate
# of links is exceeded; nothing was looked up, or its request is refused.
FIRST: Final = ord("f")
PENDING: Final = ord("p")
DONE: Final = ord("d")
LIMITED: Final = ord("r")
TOO_MANY: Final = ord("m")
TOO_FAST: Final = ord("s")
UNCHECKED: Final = ord(".")


def digest(text: str) -> str:
    """A name for keys that reveals no id, not even in Redis' files.

    It has 96 bits: among a billion ids, the chance that two share a key is 1 in 10^11.
    """
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


class Rate(NamedTuple):
    """A rate limit: records a second on average, and at once. 0 a second is no limit."""

    records_per_s: float = 0.0
    burst: int = 1

    @property
    def interval_ms(self) -> float:
        return 1000 / self.records_per_s


class Rates(NamedTuple):
    """The rates of a write key and of each visitor with messages that come with it.

    `links` is that of its new links, and `links_per_hour` how many visitors may become one user
    within an hour; 0 limits neither.
    """

    key: Rate = Rate()
    visitor: Rate = Rate()
    links: Rate = Rate(50.0, 200)
    links_per_hour: int = 0


class PageLink(NamedTuple):
    """A visitor that a page links to a user. Proven and other ones are counted separately."""

    visitor_id: str
    user_id: str
    proven: bool


@dataclass(slots=True)
class AdmissionQuery:
    """A request to judge.

    `source` is the name of its write key. `ids` and `visitors` have an entry for each message: the
    key of its id (`AdmissionStore.message_key`) and the visitor to count, each None to leave out.
    `records` has the number of records that each message makes; None for one each. `links` has the
    links to count, by the message's place.
    """

    source: str
    ids: Sequence[str | None]
    visitors: Sequence[str | None]
    records: Sequence[int] | None = None
    rates: Rates = field(default_factory=Rates)
    links: Mapping[int, PageLink] = field(default_factory=dict)


class AdmissionVerdict(NamedTuple):
    """The verdict on a request.

    `codes` has `FIRST`, `PENDING` (also: not known), `DONE`, `LIMITED`, `TOO_MANY`, `TOO_FAST` or
    `UNCHECKED` for each message. `wait_ms` is over 0 where the request exceeds its key's rate.
    `counted` is False where no answer came.
    """

    codes: bytes
    wait_ms: int = 0
    counted: bool = True


class AdmissionCall:
    """One call of the script: the plan and keys of the queries, and the answer's verdicts."""

    __slots__ = ("charges", "keys", "plan", "queries")

    def __init__(self, queries: Sequence[AdmissionQuery], prefix: str) -> None:
        """Lay out the call for the requests, in the order of the verdicts.

        `prefix` begins the keys of write keys and visitors.
        """
        self.queries = queries
        self.keys: list[str] = []
        # For each rate of the plan: records to charge, ms between records, and burst; for each link
        # the visitor, the most visitors, and the ms for which they count.
        self.charges: list[float | str] = []
        plan: list[bytes] = []
        for query in queries:
            records = query.records or [1] * len(query.ids)
            if query.rates.key.records_per_s:
                plan.append(RATED_REQUEST)
                self.keys.append(f"{prefix}s:{query.source}")
                self._charge(sum(records), query.rates.key)
            else:
                plan.append(REQUEST)
            counts = query.rates.visitor.records_per_s > 0
            if not counts and not query.links:
                plan += [ID if key else NOTHING for key in query.ids]
                self.keys += [key for key in query.ids if key]
                continue
            for place, (key, visitor, count) in enumerate(
                zip(query.ids, query.visitors, records, strict=True)
            ):
                if link := query.links.get(place):
                    plan.append(LINK)
                    user = digest(f"{link.proven:d}{link.user_id}")
                    self.keys += (f"{prefix}l:{user}", f"{prefix}k:{query.source}")
                    most = query.rates.links_per_hour
                    self.charges += (digest(link.visitor_id), most, times.HOUR_MS)
                    self._charge(1, query.rates.links)
                visitor = visitor if counts else None
                if key:
                    plan.append(ID_AND_VISITOR if visitor else ID)
                    self.keys.append(key)
                else:
                    plan.append(VISITOR if visitor else NOTHING)
                if visitor:
                    self.keys.append(f"{prefix}v:{digest(visitor)}")
                    self._charge(count, query.rates.visitor)
        self.plan = b"".join(plan)

    def _charge(self, records: int, rate: Rate) -> None:
        self.charges += (records, rate.interval_ms, rate.burst)

    def verdicts(self, answer: Sequence[Any] | None) -> list[AdmissionVerdict]:
        """The verdict on each query; without an answer, every id is `PENDING`."""
        return list(self._unjudged() if answer is None else self._judged(answer))

    def _unjudged(self) -> Iterator[AdmissionVerdict]:
        for query in self.queries:
            codes = bytes(PENDING if key else UNCHECKED for key in query.ids)
            yield AdmissionVerdict(codes, counted=False)

    def _judged(self, answer: Sequence[Any]) -> Iterator[AdmissionVerdict]:
        codes, waits = answer[0], iter(answer[1:])
        at = 0
        for query in self.queries:
            first, end = at + 1, at + 1 + len(query.ids)
            refused = codes[at:first] == REFUSED
            yield AdmissionVerdict(codes[first:end], int(next(waits)) if refused else 0)
            at = end
