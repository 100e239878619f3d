"""Types of events in the languages that exports come in, and the types that they mean here."""

import re
from typing import Final

from slipstream.contracts import vocabulary as v
from slipstream.contracts.spellings import token

# The choice for a type whose rows are left out.
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
    """The type that a name means; None for a name that nobody knows."""
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
