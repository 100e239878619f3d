"""Names of items' fields: those that shops and their exports use, by the name that we use."""

from typing import Final

from slipstream.contracts.spellings import token

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
    # Feeds have an `id`, and codes of the makers beside it.
    "item_id": f"{_IDS} id {_CODES} handle nummer",
    "title": "title name productname itemname producttitle titel bezeichnung produktname"
    " artikelbezeichnung artikelname nom titre designation libelle intitule nombre titulo nome"
    " titolo naam",
    "description": "description desc body bodyhtml beschreibung descripcion descrizione",
    "image_url": "imageurl image imagelink imagesrc img imgurl picture pictureurl photo bild"
    " bildurl imagen immagine afbeelding",
    "url": "url link producturl productlink",
    "available": "available availability instock isavailable isinstock lieferbar verfugbar"
    " verfugbarkeit verfuegbar auflager disponible disponibilidad disponibilite",
    "stock": "stock qty quantity inventory inventoryquantity stockquantity bestand lagerbestand"
    " lager existencias giacenza voorraad",
    "price": PRICE_NAMES,
    "sale_price": "saleprice specialprice sonderpreis angebotspreis",
    "currency": CURRENCY_NAMES,
    "categories": "categories categorynames kategorien producttype googleproductcategory"
    " categorias",
    "category": "category kategorie categorie categoria warengruppe rayon",
    "brand": "brand manufacturer vendor marke hersteller marque marca fabricante",
    "item_group_id": "itemgroupid groupid productgroupid inproductgroupwithid parentsku parentid"
    " variantgroup variantengruppe",
    "expires_at": "expiresat expirationdate gueltigbis gultigbis",
}
_LONGEST: Final = 40
_FIELDS: Final = {
    name: field for field, names in reversed(ITEM_NAMES.items()) for name in names.split()
}


def item_field(name: str) -> str | None:
    """The field that a name means, in whatever spelling; None for a name of nobody's."""
    return _FIELDS.get(token(name).replace("_", "")) if len(name) <= _LONGEST else None
