from slipstream.models.terms import terms


def test_terms_are_attribute_values_and_words_of_texts() -> None:
    found = list(
        terms({"title": "Toy Story", "categories": ["Comedy", None], "year": 1995, "price": None})
    )
    assert found == ["title=toy story", "toy", "story", "categories=comedy", "year=1995"]
