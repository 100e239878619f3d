"""Recognition of columns and event types, by the names that exports give to them.

Types of events are known in the languages that exports come in.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from shlex import quote
from types import MappingProxyType
from typing import Any, Final

from slipstream.contracts import vocabulary as v
from slipstream.contracts.spellings import (
    CURRENCY_NAMES,
    ITEM_ID_NAMES,
    ITEM_NAMES,
    PRICE_NAMES,
    token,
)
from slipstream.datasets.imports.cells import MOSTLY, is_address, is_price, is_time

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
    " createdat created datecreatedgmt datecreated orderdate orderedat purchasedate purchasedat"
    " orderpurchasetimestamp invoicedate transactiondate date unixtime zeitstempel zeitpunkt zeit"
    " datum bestelldatum kaufdatum datumzeit horodatage datecommande fecha fechapedido"
    " fechahora dataora data dataordine tijd",
    # Together with a column of days, see `time_of_day`.
    "time_of_day": "timeofday",
    "value": "value revenue linetotal totalprice total amount umsatz betrag gesamtpreis summe"
    " montant importe importo",
    "rating": "rating stars score bewertung note",
    "quantity": "quantity qty qtyordered units pieces menge anzahl stuck stueck quantite qte"
    " cantidad cant quantita qta aantal",
    "price": PRICE_NAMES,
    "currency": CURRENCY_NAMES,
    "order_id": "orderid order orderno ordernumber ordername incrementid transactionid invoiceid"
    " invoice invoiceno invoicenumber receiptid basketid bestellnummer bestellnr bestellid"
    " auftragsnummer auftragsnr rechnungsnummer belegnummer numerocommande ncommande nocommande"
    " refcommande idpedido npedido numeropedido pedido",
    "order_line": "orderline orderlineno line lineno linenumber lineitem lineitemid orderitemid"
    " orderposition lineid pos posnr positionsnummer bestellposition",
    "position": "position",
    "event_id": "eventid messageid insertid",
    "session_id": "sessionid session usersession sitzung",
    "recommendation_id": "recommendationid",
    # An order's own, as Magento and WooCommerce have it: no type of an event.
    "status": "status orderstatus bestellstatus",
}
EVENT_FIELDS: Final = tuple(_EVENT_NAMES)
ITEM_FIELDS: Final = tuple(ITEM_NAMES)
# Names of columns of times of day, where their cells are.
_CLOCK_NAMES: Final = frozenset({
    "time", "timeofday", "eventtime", "ordertime", "uhrzeit", "zeit", "heure", "hora", "ora",
    "orario", "tijd", "godzina",
})  # fmt: skip


class ColumnsError(ValueError):
    """The columns can't be understood. The message says what to give.

    `offered` is a column that may be the missing field, by its field.
    """

    def __init__(self, message: str, offered: Mapping[str, str] = MappingProxyType({})) -> None:
        super().__init__(message)
        self.offered = offered


# The cells of each column in the first rows, without empty ones.
Cells = Mapping[str, Sequence[Any]]
# Cells by which a column is judged.
_MOST_JUDGED: Final = 500
_NO_CELLS: Final[Cells] = MappingProxyType({})


def is_event_file(
    columns: Sequence[str], given: Mapping[str, str], cells: Cells = _NO_CELLS, lines: str = ""
) -> bool:
    """Whether the columns are those of events: with visitors, or with orders or types by time."""
    named = recognise(columns, given, _EVENT_NAMES, cells, lines)
    fields = set(named.values())
    by_time = "timestamp" in fields and fields & {"event_type", "order_id"}
    return bool(by_time or fields & {"user_id", "anonymous_id"})


def event_columns(
    columns: Sequence[str], given: Mapping[str, str], cells: Cells = _NO_CELLS, lines: str = ""
) -> dict[str, str]:
    """The field of each column of a file of events, by its name, else by its cells.

    In a file of orders, `position` is the line's place in its order, not in a slate.

    Args:
        given: Fields by column that somebody chose; "" leaves the column out.
        lines: What the names of the columns of an order's lines begin with.

    Raises:
        ColumnsError: Visitors or times have no column, or a chosen column does not exist.
    """
    fields = recognise(
        columns, {**_of_line_ids(columns, lines), **given}, _EVENT_NAMES, cells, lines
    )
    cells = {column: values[:_MOST_JUDGED] for column, values in cells.items()}
    free = {c: cells.get(c, ()) for c, field in fields.items() if field not in EVENT_FIELDS}
    fields |= _by_cells(fields, given, cells, free, lines)
    known = set(fields.values())
    if "order_id" in known and not known & {"order_line", "recommendation_id"}:
        fields = {
            column: "order_line" if field == "position" and column not in given else field
            for column, field in fields.items()
        }
    if "user_id" not in known and "anonymous_id" in known:
        fields = {
            column: "user_id" if field == "anonymous_id" and cells.get(column, True) else field
            for column, field in fields.items()
        }
    kinds = {"user_id": is_address, "timestamp": is_time}
    _demand(kinds, fields, columns, lambda field: columns_of(free, kinds[field]))
    return fields


def _of_line_ids(columns: Sequence[str], lines: str) -> dict[str, str]:
    """As a choice, what is no item in Magento's orders: their `item_id` numbers the lines."""
    has_both = bool(lines) and {f"{lines}item_id", f"{lines}sku"} <= set(columns)
    return {f"{lines}item_id": "order_line"} if has_both else {}


def _by_cells(
    fields: Mapping[str, str], given: Mapping[str, str], cells: Cells, free: Cells, lines: str
) -> dict[str, str]:
    """Fields of columns that their names don't tell: types, times and prices."""
    found: dict[str, str] = {}
    known = {field: column for column, field in fields.items()}
    named = known.get("event_type")
    if named not in (*given, "event_type") and not any(type_words(cells.get(named or "", ()))):
        column = max(free, key=lambda each: sum(type_words(free[each])), default=None)
        if column is not None and _is_of_types(free[column]):
            found |= {column: "event_type"} | ({named: named} if named else {})
    for field, fits in (("timestamp", is_time), ("price", is_price)):
        if field in known or (field == "price" and "value" in known):
            continue
        open_ = {c: v for c, v in free.items() if c not in found and c not in given}
        if field == "price":  # An order's is none of its lines.
            open_ = {c: v for c, v in open_.items() if c.startswith(lines)}
        if len(columns := columns_of(open_, fits)) == 1:
            found[columns[0]] = field
    return found


def _is_of_types(cells: Sequence[Any]) -> bool:
    """Whether cells are of types: half of them, or a tenth that means several types."""
    words = type_words(cells)
    several = len({known_type(str(cell)) for cell, word in zip(cells, words, strict=True) if word})
    return sum(words) >= len(cells) * (0.1 if several > 1 else 0.5) and any(words)


def columns_of(cells: Cells, fits: Callable[[Any], bool]) -> list[str]:
    """The columns of which nine in ten cells fit."""
    return [
        column
        for column, values in cells.items()
        if values and sum(map(fits, values)) >= MOSTLY * len(values)
    ]


def clock_column(columns: Iterable[str]) -> str | None:
    """The column with a name for times of day; None where there is none."""
    return next((c for c in columns if _bare(c) in _CLOCK_NAMES), None)


def item_columns(
    columns: Sequence[str], given: Mapping[str, str], cells: Cells = _NO_CELLS
) -> dict[str, str]:
    """The attribute of each column of a file of items; arguments and errors as of
    `event_columns`."""
    fields = recognise(columns, given, ITEM_NAMES, cells)
    _demand(("item_id",), fields, columns)
    return fields


def id_columns(columns: Sequence[str], lines: str, *, of_events: bool) -> list[str]:
    """The columns with names for ids of items."""
    names = {"item_id", *(_EVENT_NAMES if of_events else ITEM_NAMES)["item_id"].split()}
    return [c for c in columns if _spellings(c, "item_id", lines) & names]


def recognise(
    columns: Sequence[str],
    given: Mapping[str, str],
    names: Mapping[str, str],
    cells: Cells = _NO_CELLS,
    lines: str = "",
) -> dict[str, str]:
    """The field of each column: the chosen one, the one it is a name of, or its own name.

    Columns that are left out are missing in the result. Columns with cells come first, then those
    of outer objects. Arguments are those of `event_columns`; `names` has the names of each field.

    Raises:
        ColumnsError: A chosen column does not exist, or two columns are one field.
    """
    if unknown := set(given) - set(columns):
        raise ColumnsError(
            f"there is no column {', '.join(sorted(unknown))}; there are {listed(columns)}"
        )
    found = {column: field for column, field in given.items() if field}
    if len(set(found.values())) < len(found):
        raise ColumnsError("two columns are mapped to one field")
    objects = {c for c, values in cells.items() if values and isinstance(values[0], dict)}
    open_names = (c for c in columns if c not in given and c not in objects)
    ranked = sorted(open_names, key=lambda c: c.count("."))
    for is_filled in (True, False):
        open_ = [c for c in ranked if bool(cells.get(c, True)) == is_filled]
        for field, synonyms in names.items():
            if field in found.values():
                continue
            spelt = {c: _spellings(c, field, lines) for c in open_ if c not in found}
            # Orders have a number of their own.
            last = ("id", "name", "number") if field == "order_id" and lines else ()
            for name in (_bare(field), *synonyms.split(), *last):
                column = next((c for c, spellings in spelt.items() if name in spellings), None)
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


# Fields that each line of an order has of its own.
_OF_LINES: Final = frozenset({"item_id", "price", "quantity", "value", "order_line"})
# Objects around all of an event, and objects that are its item.
_ENVELOPES: Final = frozenset({
    "order", "event", "data", "payload", "body", "bestellung", "eventproperties",
})  # fmt: skip
_THINGS: Final = frozenset({"product", "item", "article", "artikel", "produkt"})
_NOT_OF_THINGS: Final = frozenset({"event_type", "timestamp", "order_id"})


def _spellings(column: str, field: str, lines: str) -> frozenset[str]:
    """The names that a column may have as a field: `order.customer.id` is a `customerid`."""
    if lines:
        of_a_line = column.startswith(lines)
        if of_a_line != (field in _OF_LINES):
            return frozenset()
        if of_a_line:
            leaf = column.removeprefix(lines)
            parent = lines.strip(" .").rpartition(".")[2].rstrip("s")
            if "." not in leaf:
                return frozenset({_bare(leaf), _bare(parent) + _bare(leaf)})
    *parents, leaf = column.split(".")
    found = {_bare(column)}
    if parents and leaf:
        parent = _bare(parents[-1])
        found.add(parent.rstrip("s") + _bare(leaf))
        inside = parent in _ENVELOPES or (parent in _THINGS and field not in _NOT_OF_THINGS)
        if lines.startswith(".".join(parents) + ".") or (len(parents) == 1 and inside):
            found.add(_bare(leaf))
    return frozenset(found)


def _bare(name: str) -> str:
    return token(name).replace("_", "")


def _demand(
    wanted: Iterable[str],
    fields: Mapping[str, str],
    columns: Sequence[str],
    offer: Callable[[str], Sequence[str]] = lambda _field: (),
) -> None:
    missing = [field for field in wanted if field not in fields.values()]
    if not missing:
        return
    offers = {candidates[0]: field for field in missing if (candidates := offer(field))}
    given = dict.fromkeys(missing, "COLUMN") | {f: column for column, f in offers.items()}
    options = " ".join("--map " + quote(f"{column}={field}") for field, column in given.items())
    raise ColumnsError(
        f"no column is known as {' or '.join(missing)}; name it with {options}"
        f" (columns: {listed(columns)})",
        offers,
    )


def listed(columns: Sequence[str]) -> str:
    """The first columns, and the number of the others."""
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


# Types that the words of a column tell; "search" may be a channel, too.
_TELLING: Final = frozenset(
    (v.VIEW, v.CLICK, v.CART, v.PURCHASE, v.RATE, v.LIKE, v.WISHLIST, v.REMOVE)
)


def type_words(cells: Sequence[Any]) -> list[bool]:
    """Whether each cell is a word for a type that tells of liking an item."""
    return [isinstance(cell, str) and known_type(cell) in _TELLING for cell in cells]


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
