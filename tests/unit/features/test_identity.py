"""Who is whom, by links that servers and pages send."""

from slipstream.features.identity import Identities, Link, links_of


def link(visitor: str, user: str, offset: int, *, proven: bool = True) -> tuple[Link, ...]:
    return links_of(Link(visitor, user, "t", offset, offset, proven))


def test_a_proven_link_takes_along_what_pages_sent_in_the_users_name() -> None:
    known = Identities(link("a", "u", 0))
    assert known.merged() == {"a": "u", "a~unproven": "u"}
    assert known.unproven == set()


def test_a_page_alone_gives_the_user_what_the_visitor_did_and_nothing_of_what_it_says() -> None:
    known = Identities(link("a", "u", 0, proven=False))
    assert known.merged() == {"a": "u"}
    assert known.unproven == {"a"}
    assert known.resolve("a~unproven") == "a~unproven"


def test_a_later_proof_counts_beside_the_pages_link() -> None:
    known = Identities([*link("a", "u", 0, proven=False), *link("a", "u", 1)])
    assert known.merged() == {"a": "u", "a~unproven": "u"}
    assert known.unproven == {"a"}, "readers are led by the visitor apart"


def test_ids_of_a_user_are_also_those_of_visitors_apart_who_are_nobody_else() -> None:
    links = [*link("a", "u", 0, proven=False), *link("b", "v", 0), *link("c", "u", 0)]
    known = Identities(links)
    assert known.ids_of("u") == {"u", "u~unproven", "a", "a~unproven", "c", "c~unproven"}
    assert known.ids_proven("u") == known.ids_of("u")
    assert known.ids_proven("a") == {"a", "a~unproven"}, "nothing of the user's"
    assert known.ids_proven("c") == known.ids_of("u")
    assert Identities([*links, *link("a", "v", 1)]).ids_of("u") == {
        "u", "u~unproven", "a", "c", "c~unproven",
    }  # fmt: skip
