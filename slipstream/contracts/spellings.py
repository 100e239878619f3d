"""Spellings in clients' data and exports: of names, of true and false, and of items' fields."""

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
