"""Requests of web pages, which show a key that everyone can see, and prove their visitor."""

from collections.abc import Sequence
from typing import Final

from fastapi import Request

from services.serving.http.bodies import SlateQuery
from services.serving.request.explaining import LISTS
from services.serving.request.store_reads import KeyRates
from services.serving.settings import ServingSection
from slipstream.chassis.access.keys import KeyRing
from slipstream.chassis.access.page_tokens import PageTokens
from slipstream.chassis.errors import ForbiddenError
from slipstream.chassis.settings import listed
from slipstream.contracts.access import Principal
from slipstream.contracts.page_visitors import id_of_secret
from slipstream.slates.slate_request import SlateRequest

PROOF: Final = "X-Slipstream-Proof"
# Rights of pages on the allowed origins.
CORS: Final = {
    "allow_methods": ["GET"],
    "allow_headers": ["Authorization", PROOF, "X-Request-Id"],
    "expose_headers": ["Retry-After", "X-Request-Id", "Content-Language"],
    "max_age": 86_400,
}


class PageReads:
    """What pages may read: the lists of the visitor that they prove, at a rate for each key.

    Args:
        keys: The keys that count, of which some verify the tokens of shops.
    """

    def __init__(self, keys: KeyRing, own: ServingSection) -> None:
        self._tokens = PageTokens(keys)
        self._rates = KeyRates(
            own.browser_lists_per_s, setting="SLIPSTREAM_SERVING__BROWSER_LISTS_PER_S"
        )
        self._attributes = listed(own.page_attributes)

    def check(self, request: Request, principal: Principal, wanted: SlateRequest) -> None:
        """Count a page's request for its key.

        Raises `ForbiddenError` where it does not prove its visitor, or wants more than a page may,
        and `TooManyRequestsError`.
        """
        if wanted.filter:
            raise ForbiddenError(
                "A filter tells of attributes that pages don't see: put it into the rules of a "
                "placement",
                code="not_for_pages",
            )
        user_id, proof = wanted.user_id, request.headers.get(PROOF)
        if proof is not None and proof.count(".") != 2:
            doubt = "" if id_of_secret(proof) == user_id else "the secret is another visitor's"
        else:
            doubt = self._tokens.user_doubt(proof, user_id) or ""
        if doubt or not user_id:
            raise ForbiddenError(
                f"{principal.name} reads lists of the visitor that {PROOF} proves, and of no other "
                f"({doubt or 'no visitor is named'}); docs/tracker.md",
                code="unproven_visitor",
            )
        self._rates.take(principal.name, LISTS if wanted.explain else 1)

    def fields(self, query: SlateQuery) -> Sequence[str]:
        """The attributes that a page gets, by its query. Raises `ForbiddenError` for others."""
        if hidden := sorted(set(query.fields) - set(self._attributes)):
            raise ForbiddenError(
                f"Pages can't read {', '.join(hidden)}: "
                "SLIPSTREAM_SERVING__PAGE_ATTRIBUTES on the server lists what they may",
                code="not_for_pages",
            )
        return query.fields or self._attributes
