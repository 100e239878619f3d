"""Recognition of columns: the names that exports give to the fields of events and items."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from slipstream.contracts.item_names import (
    CURRENCY_NAMES,
    ITEM_ID_NAMES,
    ITEM_NAMES,
    PRICE_NAMES,
)
from slipstream.contracts.spellings import token

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
    # Beside a column of days, see `time_of_day`.
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

    A `position` beside an order is that of the line in its order, not that in a slate.

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
    """The column whose name says that it has times of day; None where there is none."""
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
            continue  # `title` beside a column that was mapped to it
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
