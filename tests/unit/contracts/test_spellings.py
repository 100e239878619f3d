import pytest

from slipstream.contracts.spellings import did_you_mean, meant

OF_A_SLATE = ("n", "filter", "fields", "placement", "exclude", "cursor", "attributes", "context")


@pytest.mark.parametrize(
    ("name", "known", "expected"),
    [
        ("palcement", OF_A_SLATE, "placement"),
        ("filters", OF_A_SLATE, "filter"),
        ("Filter", OF_A_SLATE, "filter"),
        ("limit", OF_A_SLATE, "n"),
        ("count", OF_A_SLATE, "n"),
        ("pageSize", ("limit", "cursor"), "limit"),
        ("limit", ("limits", "most"), "limits"),
        ("userId", ("user_ids", "user_id"), "user_id"),
        ("titel", ("title", "stock"), "title"),
        ("category", ("categories", "price"), "categories"),
        ("colour", OF_A_SLATE, ""),
        ("x" * 100_000, OF_A_SLATE, ""),
        ("", OF_A_SLATE, ""),
        ("n", (), ""),
    ],
)
def test_the_name_that_is_meant(name: str, known: tuple[str, ...], expected: str) -> None:
    assert meant(name, known) == expected


def test_without_a_likely_name_the_known_ones_are_listed() -> None:
    assert did_you_mean("colour", ["n", "filter"]) == "there are filter, n"
    assert did_you_mean("colour", []) == "there are none"
    many = [f"zzz{number:03}" for number in range(40)]
    assert did_you_mean("colour", many).endswith("zzz029 and 10 more")
