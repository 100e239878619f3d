"""Recognition of columns and event types, by the names that exports give to them.

Types of events are known in the languages that exports come in.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from slipstream.contracts import vocabulary as v
from slipstream.contracts.spellings import (
    CURRENCY_NAMES,
    ITEM_ID_NAMES,
    ITEM_NAMES,
    PRICE_NAMES,
    token,
)

# Spelt as `token` spells them, without `_`. The first name found takes the field.
_EVENT_NAMES: Final[dict[str, str]] = {
    "user_id": "userid user uid customerid customer customerno customernumber clientid memberid"
    " visitorid shopperid accountid buyerid userpseudoid kundenid kundennummer kundennr kunde"
    " idclient numeroclient nclient noclient codeclient refclient idcliente codigocliente ncliente"
    " cliente klantid klantnummer klant visitor",
    "anonymous_id": "anonymousid cookieid deviceid",
    "item_id": ITEM_ID_NAMES,
    "event_type": "eventtype event eventname action actiontype behavior behaviour behaviortype"
    " interaction interactiontype activity type ereignis ereignistyp aktion typ evenement evento"
    " tipo tipoevento",
    "timestamp": "timestamp ts time datetime eventtime eventtimestamp eventdate occurredat"
    " createdat created orderdate orderedat purchasedate purchasedat orderpurchasetimestamp"
    " invoicedate transactiondate date unixtime zeitstempel zeitpunkt zeit datum bestelldatum"
    " kaufdatum datumzeit horodatage datecommande fecha fechapedido"
    " fechahora dataora data dataordine tijd",
    # Together with a column of days, see `time_of_day`.
    "time_of_day": "timeofday",
    "value": "value revenue linetotal totalprice total amount umsatz betrag gesamtpreis summe"
    " montant importe importo",
    "rating": "rating stars score bewertung note",
    "quantity": "quantity qty units pieces menge anzahl stuck stueck quantite qte cantidad cant"
    " quantita qta"
    " aantal",
    "price": PRICE_NAMES,
    "currency": CURRENCY_NAMES,
    "order_id": "orderid order orderno ordernumber ordername transactionid invoiceid invoice"
    " invoiceno invoicenumber receiptid basketid bestellnummer bestellnr bestellid auftragsnummer"
    " auftragsnr rechnungsnummer belegnummer numerocommande ncommande nocommande refcommande"
    " idpedido npedido numeropedido pedido",
    "order_line": "orderline orderlineno line lineno linenumber lineitem lineitemid orderitemid"
    " orderposition lineid pos posnr positionsnummer bestellposition",
    "position": "position",
    "event_id": "eventid messageid",
    "session_id": "sessionid session usersession sitzung",
    "recommendation_id": "recommendationid",
}
EVENT_FIELDS: Final = tuple(_EVENT_NAMES)
ITEM_FIELDS: Final = tuple(ITEM_NAMES)
# Names of columns of times of day, where their cells are.
_CLOCK_NAMES: Final = frozenset({
    "time", "timeofday", "eventtime", "ordertime", "uhrzeit", "zeit", "heure", "hora", "ora",
    "orario", "tijd", "godzina",
})  # fmt: skip


class ColumnsError(ValueError):
    """The columns can't be understood. The message says what to give."""


def is_event_file(columns: Iterable[str], given: Mapping[str, str]) -> bool:
    """Whether the columns are those of events: with visitors, or with orders or types by time."""
    fields = set(recognise(list(columns), given, _EVENT_NAMES).values())
    by_time = "timestamp" in fields and fields & {"event_type", "order_id"}
    return bool(by_time or fields & {"user_id", "anonymous_id"})


def event_columns(columns: Sequence[str], given: Mapping[str, str]) -> dict[str, str]:
    """The field of each column of a file of events.

    In a file of orders, `position` is the line's place in its order, not in a slate.

    Args:
        columns: Names of the columns.
        given: Fields by column that somebody chose; "" leaves the column out.

    Raises:
        ColumnsError: Visitors or times have no column, or a chosen column does not exist.
    """
    fields = recognise(columns, given, _EVENT_NAMES)
    known = set(fields.values())
    if "order_id" in known and not known & {"order_line", "recommendation_id"}:
        fields = {
            column: "order_line" if field == "position" and column not in given else field
            for column, field in fields.items()
        }
    if "user_id" not in known and "anonymous_id" in known:
        fields = {
            column: "user_id" if field == "anonymous_id" else field
            for column, field in fields.items()
        }
    _demand(("user_id", "timestamp"), fields, columns)
    return fields


def clock_column(columns: Iterable[str]) -> str | None:
    """The column with a name for times of day; None where there is none."""
    return next((c for c in columns if token(c).replace("_", "") in _CLOCK_NAMES), None)


def item_columns(columns: Sequence[str], given: Mapping[str, str]) -> dict[str, str]:
    """The attribute of each column of a file of items; arguments and errors as of
    `event_columns`."""
    fields = recognise(columns, given, ITEM_NAMES)
    _demand(("item_id",), fields, columns)
    return fields


def recognise(
    columns: Sequence[str], given: Mapping[str, str], names: Mapping[str, str]
) -> dict[str, str]:
    """The field of each column: the chosen one, the one it is a name of, or its own name.

    Columns that are left out are missing in the result.

    Raises:
        ColumnsError: A chosen column does not exist, or two columns are one field.
    """
    if unknown := set(given) - set(columns):
        raise ColumnsError(
            f"there is no column {', '.join(sorted(unknown))}; there are {_listed(columns)}"
        )
    found = {column: field for column, field in given.items() if field}
    if len(taken := set(found.values())) < len(found):
        raise ColumnsError("two columns are mapped to one field")
    spelt = {column: token(column).replace("_", "") for column in columns if column not in given}
    for field, synonyms in names.items():
        if field in taken:
            continue
        for name in (token(field).replace("_", ""), *synonyms.split()):
            column = next((c for c, s in spelt.items() if s == name and c not in found), None)
            if column is not None:
                found[column] = field
                break
    fields = {}
    for column in columns:
        if column in given and not given[column]:
            continue
        field = found.get(column, column)
        if column not in found and field in found.values():
            continue  # `title`, where another column was mapped to it
        fields[column] = field
    return fields


def _demand(wanted: tuple[str, ...], fields: Mapping[str, str], columns: Sequence[str]) -> None:
    missing = [field for field in wanted if field not in fields.values()]
    if missing:
        options = " ".join(f"--map THEIRS={field}" for field in missing)
        raise ColumnsError(
            f"no column is known as {' or '.join(missing)}: say which with {options}; "
            f"there are {_listed(columns)}"
        )


def _listed(columns: Sequence[str]) -> str:
    shown = ", ".join(columns[:30])
    return shown if len(columns) <= 30 else f"{shown} and {len(columns) - 30} more"


# The choice to leave out a type's rows.
SKIP: Final = "skip"
_TOKEN: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")

# Spelt as `token` spells them. Product feeds, analytics tools, then German, French, Spanish,
# Italian, Portuguese, Dutch and Polish.
_SYNONYMS: Final[dict[str, str]] = {
    v.VIEW: "views viewed page_view pageview pv product_view product_viewed viewed_product"
    " view_item item_view item_viewed detail details detail_view view_product visit visited seen"
    " browse ansicht angesehen produktansicht produkt_angesehen artikel_angesehen aufruf gesehen"
    " vue consultation consulte vista visto visualizacion visualizzazione visualizzato visualizacao"
    " bekeken weergave obejrzenie wyswietlenie",
    v.CLICK: "clicks clicked product_click product_clicked clicked_product select_item item_click"
    " klick geklickt angeklickt clic clique clicado klik klikniecie",
    v.CART: "carts add_to_cart addtocart added_to_cart add_cart cart_add product_added"
    " added_product basket add_to_basket addtobasket add_to_bag atc warenkorb in_den_warenkorb"
    " in_warenkorb_gelegt zum_warenkorb_hinzugefugt panier ajout_panier ajout_au_panier carrito"
    " anadir_al_carrito agregar_al_carrito carrello aggiunta_al_carrello carrinho"
    " adicionar_ao_carrinho winkelwagen in_winkelwagen koszyk dodano_do_koszyka",
    v.PURCHASE: "purchases purchased buy buys bought order orders ordered order_completed"
    " completed_order order_placed placed_order order_paid transaction transactions sale sales"
    " sold conversion converted checkout_completed in_app_purchase ecommerce_purchase kauf"
    " gekauft kaufe bestellung bestellt verkauf verkauft auftrag achat achete commande commander"
    " vente compra comprado comprar venta pedido acquisto acquistato ordine vendita venda"
    " encomenda koop gekocht aankoop bestelling zakup kupiono zamowienie",
    v.RATE: "rated rating ratings review reviewed product_reviewed bewertung bewertet avis"
    " notation valoracion calificacion resena recensione valutazione avaliacao beoordeling ocena",
    v.LIKE: "likes liked thumbs_up thumbup upvote heart gefallt_mir gefaellt_mir jaime j_aime"
    " me_gusta mi_piace curtir vind_ik_leuk",
    v.WISHLIST: "wish_list add_to_wishlist addtowishlist product_added_to_wishlist fav favorite"
    " favorites favourite favourites favorited add_to_favorites bookmark merkzettel wunschliste"
    " gemerkt favorit favori favoris mise_en_favoris ajout_aux_favoris liste_de_souhaits"
    " lista_de_deseos favorito lista_desideri"
    " preferiti verlanglijst ulubione",
    "share": "shared product_shared geteilt teilen partage compartir compartido condivisione",
    v.SEARCH: "searches searched products_searched site_search suche gesucht recherche busqueda"
    " buscar ricerca busca zoeken wyszukiwanie",
    v.IMPRESSION: "impressions product_impression product_list_viewed view_item_list"
    " viewed_product_category shown exposure einblendung angezeigt",
    # Who gives back or takes out shows no liking.
    v.REMOVE: "removed remove_from_cart removefromcart cart_remove product_removed"
    " removed_product refund refunds refunded order_refunded return returns returned cancel"
    " cancelled canceled cancellation order_cancelled chargeback credit_note storno storniert"
    " stornierung retoure retourniert ruckgabe rueckgabe zuruckgegeben erstattung ruckerstattung"
    " rueckerstattung gutschrift aus_warenkorb_entfernt remboursement rembourse retour annulation"
    " annule devolucion devuelto reembolso cancelado rimborso reso annullato annullamento"
    " devolucao terugbetaling geannuleerd retour_artikel zwrot anulowano",
    "page": "page_viewed",
    "screen": "screen_viewed",
}
TYPES: Final[dict[str, str]] = {
    name: event_type
    for event_type, names in _SYNONYMS.items()
    for name in (event_type, *names.split())
}


def known_type(name: str) -> str | None:
    """The type that a name means; None for an unknown name."""
    return TYPES.get(token(name))


def chosen_type(name: str) -> str:
    """The type that somebody chose: one of ours by any name, `skip`, or a type of their own.

    Raises:
        ValueError: It is no token of at most 64 small letters, digits and `_`.
    """
    spelt = token(name)
    if not _TOKEN.fullmatch(spelt):
        raise ValueError(
            f"{name!r} is no type of events: at most 64 letters (a-z), digits and _, a letter first"
        )
    return spelt if spelt == SKIP else TYPES.get(spelt, spelt)
