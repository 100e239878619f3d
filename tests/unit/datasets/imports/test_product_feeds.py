"""Product feeds as shops export them: Google Merchant in XML and TSV."""

from pathlib import Path
from typing import Any

import pytest

from slipstream.datasets.imports.conversion import Item, Rejection
from slipstream.datasets.imports.sources import ImportFileError, find_files
from slipstream.datasets.imports.surveys import open_export
from slipstream.datasets.imports.understanding import Choices

RSS = """<?xml version="1.0" encoding="{encoding}"?>
<rss xmlns:g="http://base.google.com/ns/1.0" version="2.0">
<channel><title>Schuhe &amp; mehr</title><link>https://shop.example</link>
<item>
  <g:id>S-1</g:id><g:gtin>4006381333931</g:gtin>
  <title><![CDATA[Stiefel für <Regen>]]></title>
  <g:description>Dicht &amp; warm</g:description>
  <g:link>https://shop.example/s-1</g:link><g:image_link>https://shop.example/s-1.jpg</g:image_link>
  <g:additional_image_link>a.jpg</g:additional_image_link>
  <g:additional_image_link>b.jpg</g:additional_image_link>
  <g:price>1299.00 EUR</g:price><g:sale_price>999.00 EUR</g:sale_price>
  <g:availability>in_stock</g:availability><g:brand>Nord</g:brand>
  <g:item_group_id>S</g:item_group_id><g:product_type>Schuhe > Stiefel</g:product_type>
  <g:shipping><g:country>DE</g:country><g:price>5 EUR</g:price></g:shipping>
</item>
<item><g:id>S-2</g:id><title>Sandale</title><g:price>20 EUR</g:price>
  <g:availability>out of stock</g:availability></item>
<item><title>Ohne Nummer</title><g:price>20 EUR</g:price></item>
</channel></rss>"""
BOOT = {
    "item_id": "S-1",
    "title": "Stiefel für <Regen>",
    "description": "Dicht & warm",
    "url": "https://shop.example/s-1",
    "image_url": "https://shop.example/s-1.jpg",
    "price": 1299,
    "sale_price": 999,
    "currency": "EUR",
    "available": True,
    "brand": "Nord",
    "item_group_id": "S",
    "categories": ["Schuhe", "Stiefel"],
}


def read(tmp_path: Path, content: bytes | str) -> tuple[list[dict[str, Any]], list[Rejection]]:
    path = tmp_path / "feed"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    (file,) = find_files(str(path))
    rejected: list[Rejection] = []
    entries = open_export(file, Choices()).entries(rejected.append)
    return [entry.entry for entry in entries if isinstance(entry, Item)], rejected


@pytest.mark.parametrize("encoding", ["UTF-8", "ISO-8859-1", "UTF-16", "windows-1252"])
def test_a_merchant_feed_in_rss(tmp_path: Path, encoding: str) -> None:
    items, rejected = read(tmp_path, RSS.format(encoding=encoding).encode(encoding))
    boot, sandal = items
    assert boot | BOOT == boot
    assert boot["shipping"] == {"country": "DE", "price": "5 EUR"}
    assert boot["additional_image_link"] == ["a.jpg", "b.jpg"]
    assert (sandal["item_id"], sandal["available"]) == ("S-2", False)
    assert [(each.code, each.line) for each in rejected] == [("missing_item", 18)]


def test_a_merchant_feed_in_atom_and_in_one_long_line(tmp_path: Path) -> None:
    entry = (
        "<entry><g:id>S-{n}</g:id><g:title>T</g:title><link href='https://x/{n}'/>"
        f"<summary>{'words ' * 200}</summary><g:price>9.50 USD</g:price></entry>"
    )
    entries = "".join(entry.replace("{n}", str(number)) for number in range(2_500))
    items, rejected = read(tmp_path, f"<feed><title>Shop</title>{entries}</feed>")
    assert (len(items), rejected) == (2_500, [])
    assert items[7] | {
        "item_id": "S-7", "title": "T", "url": "https://x/7", "price": 9.5, "currency": "USD",
    } == items[7]  # fmt: skip


def test_a_merchant_feed_in_tsv(tmp_path: Path) -> None:
    header = (
        "id\ttitle\tdescription\tlink\timage link\tprice\tsale price\tavailability\tbrand\tgtin"
        "\titem group id\tproduct type\n"
    )
    row = (
        "S-1\tStiefel für <Regen>\tDicht & warm\thttps://shop.example/s-1"
        "\thttps://shop.example/s-1.jpg\t1299.00 EUR\t999.00 EUR\tin stock\tNord"
        "\t4006381333931\tS\tSchuhe > Stiefel\n"
    )
    items, rejected = read(tmp_path, header + row)
    assert rejected == []
    assert items[0] | BOOT == items[0]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ('<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><rss><item>&b;</item></rss>',
         "line 1: has a DOCTYPE"),
        ('<!DOCTYPE x SYSTEM "file:///etc/passwd"><rss><item/></rss>', "has a DOCTYPE"),
        ("<!DOCTYPE html><html></html>", "is it a page"),
        ("<rss><channel></channel></rss>", "no <item> and no <entry>"),
        ("<rss><item><id>1</id></channel>", "can't be read as XML"),
        ('<?xml version="1.0" encoding="nonsense"?><rss><item/></rss>', "can't be read as XML"),
        ("<rss>" + "<a>" * 20, "nested over 16 deep"),
        (f"<rss><item><id>1</id><t>{'x' * 1_100_000}</t></item></rss>", "over 1,000,000 char"),
        (f"<rss><item>{'<a>1</a>' * 1_001}</item></rss>", "over 1,000 elements"),
        (f"<rss><item><a b='{'x' * 2_000_000}'/></item></rss>", "a tag has over"),
    ],
)  # fmt: skip
def test_what_is_no_feed_or_has_no_bounds_is_refused(
    tmp_path: Path, content: str, reason: str
) -> None:
    with pytest.raises(ImportFileError, match=reason):
        read(tmp_path, content)
