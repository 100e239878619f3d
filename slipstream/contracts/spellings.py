"""Spellings: one form of a name, and the words for true and false in clients' data and exports."""

import re
import unicodedata
from functools import lru_cache
from typing import Any, Final

_TRUE: Final = frozenset({
    "1", "true", "t", "yes", "y", "ja", "j", "oui", "si", "sí", "sim", "tak", "available",
    "instock", "in_stock", "lieferbar", "verfügbar", "auf_lager", "onlineonly",
    "limitedavailability", "preorder", "backorder", "presale", "disponible", "en_stock",
    "sur_commande",
})  # fmt: skip
_FALSE: Final = frozenset({
    "0", "false", "f", "no", "n", "nein", "non", "não", "nie", "unavailable", "outofstock",
    "out_of_stock", "soldout", "sold_out", "ausverkauft", "nicht_lieferbar", "nicht_verfügbar",
    "discontinued", "agotado", "épuisé", "epuise", "indisponible", "en_rupture",
    "rupture_de_stock",
})  # fmt: skip


@lru_cache(4096)
def token(name: str) -> str:
    """The one spelling of a name: without accents, in lower case, `_` between its words.

    `addToCart`, `Add to cart` and `ADD_TO_CART` are equal.
    """
    parted = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name.strip()).replace("ß", "ss")
    plain = unicodedata.normalize("NFKD", parted)
    bare = "".join(letter for letter in plain if not unicodedata.combining(letter))
    return re.sub(r"[^a-z0-9]+", "_", bare.lower().replace("ł", "l")).strip("_")


def truth_of(value: Any) -> bool | None:
    """A truth value: true and false, 1 and 0, yes and no, or the availability of product feeds.

    None for anything else.
    """
    if isinstance(value, bool):
        return value
    if isinstance(value, int | float) and value in (0, 1):
        return bool(value)
    if isinstance(value, str):
        # schema.org names availabilities by URLs.
        word = re.sub(r"[\s-]+", "_", value.strip().lower().rpartition("/")[2])
        if word in _TRUE or word in _FALSE:
            return word in _TRUE
    return None
