"""Names, products and impressions."""

from typing import Any

import pytest

from services.ingestion.fields import Code
from tests.unit.ingestion.payloads import interactions, only_interaction, rejection, track


@pytest.mark.parametrize(
    ("event", "event_type"),
    [
        ("Product Viewed", "view"),
        ("product viewed", "view"),
        ("Product Clicked", "click"),
        ("Product Added", "cart"),
        ("Product Removed", "remove"),
        ("Product Added to Wishlist", "wishlist"),
        ("Product Reviewed", "rate"),
        ("Order Completed", "purchase"),
        ("Completed Order", "purchase"),
        ("view", "view"),
        ("rate", "rate"),
        ("Video Started", "video_started"),
    ],
)
def test_event_name_gives_the_type(event: str, event_type: str) -> None:
    assert only_interaction(track(event)).event_type == event_type


def test_order_makes_an_interaction_for_each_product() -> None:
    order = {
        "order_id": "o-1",
        "revenue": 100.0,
        "products": [
            {"product_id": "a", "price": 10, "quantity": 3},
            {"sku": "b", "price": "2.5"},
            {"item_id": "c"},
        ],
    }
    bought = interactions(track("Order Completed", order))
    assert [(i.event_id, i.item_id, i.value, i.event_type) for i in bought] == [
        ("m-1:0", "a", 30.0, "purchase"),
        ("m-1:1", "b", 2.5, "purchase"),
        ("m-1:2", "c", None, "purchase"),
    ]
    assert all(i.properties["order_id"] == "o-1" and "products" not in i.properties for i in bought)


def test_order_of_one_product_takes_the_order_s_revenue() -> None:
    assert (
        only_interaction(
            track("Order Completed", {"revenue": 12.0, "products": [{"product_id": "a"}]})
        ).value
        == 12.0
    )


def test_product_list_makes_impressions_with_their_places() -> None:
    shown = interactions(
        track(
            "Product List Viewed",
            {
                "list_id": "home",
                "recommendation_id": "r-9",
                "products": [{"product_id": "a"}, "b", {"sku": "c", "position": 7}],
            },
        )
    )
    assert [(i.event_type, i.item_id, i.position, i.recommendation_id) for i in shown] == [
        ("impression", "a", 0, "r-9"),
        ("impression", "b", 1, "r-9"),
        ("impression", "c", 7, "r-9"),
    ]


def test_large_properties_of_an_order_are_not_copied_to_each_product() -> None:
    bought = interactions(
        track(
            "Order Completed",
            {"coupon": "x" * 10_000, "note": "y", "products": [{"sku": "a"}, {"sku": "b"}]},
        )
    )
    assert all(i.properties == {"sku": i.item_id} for i in bought)


SEGMENT_V2 = {
    "Products Searched": "search", "Product List Viewed": "impression",
    "Product List Filtered": "impression",
    "Promotion Viewed": "impression", "Promotion Clicked": "click", "Product Clicked": "click",
    "Product Viewed": "view",
    "Product Added": "cart", "Product Removed": "remove", "Cart Viewed": "cart_viewed",
    "Checkout Started": "checkout_started",
    "Checkout Step Viewed": "checkout_step_viewed",
    "Checkout Step Completed": "checkout_step_completed",
    "Payment Info Entered": "payment_info_entered", "Order Completed": "purchase",
    "Order Updated": "order_updated",
    "Order Refunded": "remove", "Order Cancelled": "remove", "Coupon Entered": "coupon_entered",
    "Coupon Applied": "coupon_applied", "Coupon Denied": "coupon_denied",
    "Coupon Removed": "coupon_removed",
    "Product Added to Wishlist": "wishlist", "Product Removed from Wishlist": "remove",
    "Wishlist Product Added to Cart": "cart", "Product Shared": "share",
    "Cart Shared": "cart_shared",
    "Product Reviewed": "rate",
}  # fmt: skip
# The specification sends these with the products of an order, a cart or a list.
OF_PRODUCTS = {
    "Product List Viewed",
    "Product List Filtered",
    "Order Completed",
    "Order Refunded",
    "Order Cancelled",
}


@pytest.mark.parametrize("event", sorted(SEGMENT_V2))
def test_every_event_of_segment_s_e_commerce_specification_has_a_type(event: str) -> None:
    properties: dict[str, Any] = {"product_id": "a"}
    if event in OF_PRODUCTS:
        properties = {"products": [{"product_id": "a"}, {"product_id": "b"}]}
    made = interactions(track(event, properties))
    assert [i.event_type for i in made] == [SEGMENT_V2[event]] * (2 if event in OF_PRODUCTS else 1)
    assert made[0].item_id == "a"


@pytest.mark.parametrize(
    ("event", "event_type"),
    [
        ("Order Refunded", "order_refunded"),
        ("Product List Viewed", "product_list_viewed"),
        ("Promotion Viewed", "promotion_viewed"),
        ("Promotion Clicked", "promotion_clicked"),
    ],
)
def test_event_that_may_come_without_products_is_its_own_type_then(
    event: str, event_type: str
) -> None:
    for properties in ({"order_id": "o-1"}, {"order_id": "o-1", "products": []}):
        interaction = only_interaction(track(event, properties))
        assert (interaction.event_type, interaction.item_id) == (event_type, None)
        assert interaction.properties["order_id"] == "o-1"


@pytest.mark.parametrize("event", ["refund", "Refunded", "return", "returned"])
def test_what_is_given_back_is_no_interest(event: str) -> None:
    assert only_interaction(track(event, {"sku": "a", "value": -5})).event_type == "remove"


def test_products_of_an_event_that_is_of_no_item_stay_in_its_properties() -> None:
    interaction = only_interaction(track("Checkout Started", {"products": [{"sku": "a"}]}))
    assert (interaction.item_id, interaction.properties) == (None, {"products": [{"sku": "a"}]})


def test_impressions_beside_any_event_are_impressions() -> None:
    properties = {
        "sku": "a",
        "recommendation_id": "r-1",
        "list_id": "home",
        "impressions": ["x", 7, {"item_id": "y", "position": 9}],
    }
    viewed, *shown = interactions(track(properties=properties))
    assert (viewed.event_type, viewed.item_id, viewed.event_id) == ("view", "a", "m-1")
    assert "impressions" not in viewed.properties
    assert [
        (i.event_id, i.event_type, i.item_id, i.position, i.recommendation_id) for i in shown
    ] == [
        ("m-1:i0", "impression", "x", 0, "r-1"),
        ("m-1:i1", "impression", "7", 1, "r-1"),
        ("m-1:i2", "impression", "y", 9, "r-1"),
    ]
    assert all(i.properties["list_id"] == "home" for i in shown)
    page = {"type": "page", "userId": "ada", "messageId": "m", "properties": {"impressions": ["x"]}}
    assert [i.event_type for i in interactions(page)] == ["page", "impression"]
    order = track("Order Completed", {"products": ["a", "b"], "impressions": ["x"]})
    assert [i.event_id for i in interactions(order)] == ["m-1:0", "m-1:1", "m-1:i0"]
    assert [i.event_id for i in interactions(track("impression", {"impressions": ["x", "y"]}))] == [
        "m-1:i0",
        "m-1:i1",
    ]


def test_impressions_that_are_a_number_are_a_property_like_any_other() -> None:
    assert only_interaction(track("Campaign Reported", {"impressions": 1_000})).properties == {
        "impressions": 1_000
    }


def test_search_needs_no_item() -> None:
    interaction = only_interaction(track("Products Searched", {"query": "boots"}))
    assert (interaction.event_type, interaction.item_id, interaction.properties) == (
        "search",
        None,
        {"query": "boots"},
    )


def test_nul_in_an_id_and_too_many_products_are_rejected() -> None:
    assert rejection(track(properties={"product_id": "a\x00b"}))[0] == Code.INVALID_ID
    products = [{"product_id": str(number)} for number in range(501)]
    assert rejection(track("Order Completed", {"products": products})) == (
        Code.EVENT_TOO_LARGE,
        "properties.products",
    )


def test_money_that_is_no_number_does_not_cost_a_view() -> None:
    interaction = only_interaction(track("Product Viewed", {"sku": "a", "price": "19,99 €"}))
    assert (interaction.value, interaction.properties["price"]) == (None, "19,99 €")


@pytest.mark.parametrize("event", ["Product Added", "Order Completed", "Order Refunded"])
@pytest.mark.parametrize(
    ("product", "field"),
    [
        ({"price": "EUR 12.90"}, "price"),
        ({"price": "12,90", "quantity": 2}, "price"),
        ({"price": 12.9, "quantity": "two"}, "quantity"),
        ({"price": True}, "price"),
        ({"revenue": "12,90"}, "revenue"),
        ({"quantity": "two"}, "quantity"),
        ({"value": 5, "total": "EUR 5"}, "total"),
    ],
)
def test_money_that_is_no_number_is_rejected_where_it_is_counted(
    event: str, product: dict[str, Any], field: str
) -> None:
    product = {"product_id": "a", **product}
    assert rejection(track(event, product)) == (Code.INVALID_VALUE, f"properties.{field}")
    listed = {"products": [{"product_id": "b", "price": "9.5"}, product]}
    assert rejection(track(event, listed)) == (
        Code.INVALID_VALUE,
        f"properties.products.1.{field}",
    )
    of_order = {"products": ["a", "b"], **{k: v for k, v in product.items() if k != "product_id"}}
    assert rejection(track(event, of_order)) == (Code.INVALID_VALUE, f"properties.{field}")


def test_missing_empty_and_plain_text_money_is_read() -> None:
    products = [{"product_id": "a", "price": ""}, {"product_id": "b", "price": None}, "c"]
    products.append({"product_id": "d", "price": "12.90", "quantity": "2"})
    made = interactions(track("Order Completed", {"products": products}))
    assert [interaction.value for interaction in made] == [None, None, None, 25.8]


@pytest.mark.parametrize(
    ("event", "refunded"), [("Order Refunded", True), ("returned", True), ("Product Removed", None)]
)
def test_a_refund_is_told_from_other_removals(event: str, refunded: bool | None) -> None:
    made = only_interaction(track(event, {"products": [{"product_id": "a", "price": 3}]}))
    assert (made.event_type, made.properties.get("refunded")) == ("remove", refunded)
