"""Spellings in clients' requests, data and exports: of names, of true and false, of items' fields.

An unknown name is answered with the known one that was most likely meant.
"""

import re
import unicodedata
from collections.abc import Iterable
from difflib import get_close_matches
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


# Spelt as `token` spells them, without `_`.
_IDS = (
    "itemid item productid product productcode productno sku articleid articleno articlenumber"
    " article stockcode artikelid artikelnummer artikelnr artikel produktid produktnummer produkt"
    " idproduit produit reference refarticle referencearticle codearticle noarticle refproduit"
    " codeproduit idproducto codigoproducto codigoarticulo idarticulo articulo producto idprodotto"
    " prodotto movieid contentid"
)
_CODES = "asin isbn ean gtin"
ITEM_ID_NAMES: Final = f"{_IDS} {_CODES}"
PRICE_NAMES: Final = (
    "price unitprice itemprice preis einzelpreis stuckpreis stueckpreis prix prixttc prixunitaire"
    " prixvente precio preciounitario pvp prezzo prezzounitario prijs"
)
CURRENCY_NAMES: Final = "currency currencycode wahrung waehrung devise moneda valuta"
ITEM_NAMES: Final[dict[str, str]] = {
    # Feeds have an `id` and the makers' codes.
    "item_id": f"{_IDS} id {_CODES} variantsku handle nummer",
    "title": "title name productname itemname producttitle titel bezeichnung produktname"
    " artikelbezeichnung artikelname nom titre designation libelle intitule nombre titulo nome"
    " titolo naam",
    "description": "description desc body bodyhtml beschreibung descripcion descrizione",
    "image_url": "imageurl image imagelink imagesrc img imgurl picture pictureurl photo bild"
    " bildurl imagen immagine afbeelding",
    "url": "url link producturl productlink",
    "available": "available availability instock isavailable isinstock lieferbar verfugbar"
    " verfugbarkeit verfuegbar auflager disponible disponibilidad disponibilite",
    "stock": "stock qty quantity inventory inventoryquantity stockquantity variantinventoryqty"
    " variantinventoryquantity"
    " bestand lagerbestand lager existencias giacenza voorraad",
    "price": f"{PRICE_NAMES} variantprice",
    "sale_price": "saleprice specialprice sonderpreis angebotspreis",
    "currency": CURRENCY_NAMES,
    "categories": "categories categorynames kategorien productcategory producttype"
    " googleproductcategory categorias",
    "category": "category kategorie categorie categoria warengruppe rayon",
    "brand": "brand manufacturer vendor marke hersteller marque marca fabricante",
    "item_group_id": "itemgroupid groupid productgroupid inproductgroupwithid parentsku parentid"
    " variantgroup variantengruppe handle",
    "status": "",
    "expires_at": "expiresat expirationdate gueltigbis gultigbis",
}
_LONGEST: Final = 40
_FIELDS: Final = {
    name: field for field, names in reversed(ITEM_NAMES.items()) for name in names.split()
}


def item_field(name: str) -> str | None:
    """The field that a name means, in whatever spelling; None for an unknown name."""
    return _FIELDS.get(token(name).replace("_", "")) if len(name) <= _LONGEST else None


# Names that APIs use for one thing, spelt as `token` spells them.
_SYNONYMS: Final = (
    "n limit count size num number max top k top_k top_n page_size per_page max_results",
    "user_id user visitor_id customer_id",
    "item_id item product_id sku",
    "user_ids users",
    "item_ids items products",
    "cursor page offset page_token next_cursor",
    "filter query where q",
    "exclude blacklist ignore without",
    "fields select columns properties",
)
# Likeness of two spellings from which one is taken for the other.
_ALIKE: Final = 0.7
_SHOWN_NAMES: Final = 30


def meant(name: str, known: Iterable[str]) -> str:
    """The known name that was most likely meant; empty where none is like it."""
    by_token = {token(each): each for each in known}
    given = token(name[:_LONGEST])
    same = (each for group in map(str.split, _SYNONYMS) if given in group for each in group)
    close = get_close_matches(given, by_token, n=1, cutoff=_ALIKE)
    return next((by_token[each] for each in (*same, *close) if each in by_token), "")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The words of an error that follow an unknown name: the name meant, or the known ones."""
    names = sorted(known)
    if found := meant(name, names):
        return f"did you mean {found}?"
    if not names:
        return "there are none"
    more = f" and {len(names) - _SHOWN_NAMES} more" if len(names) > _SHOWN_NAMES else ""
    return f"there are {', '.join(names[:_SHOWN_NAMES])}{more}"
