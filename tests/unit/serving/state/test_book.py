"""The placements in memory."""

from services.serving.state.topic_states import StateBook
from slipstream.contracts.placements import Placement, PlacementPolicy


def placement(name: str, revision: int = 1, *, deleted: bool = False, **policy: float) -> Placement:
    return Placement(
        name=name,
        revision=revision,
        policy=PlacementPolicy(**policy),
        deleted=deleted,
        changed_at=1,
    )


def test_the_newest_state_is_there_and_a_deleted_one_is_not() -> None:
    book = StateBook[Placement]()
    assert book.get("home") is None and book.revision == 0
    home, cart = placement("home"), placement("cart")
    book.take([home, cart, placement("gone", deleted=True)])
    assert (book.get("home"), book.get("cart"), book.get("gone")) == (home, cart, None)
    assert book.revision == 1
    varied = placement("home", 2, diversity=0.5)
    book.take([varied, placement("cart", 2, deleted=True)])
    assert (book.get("home"), book.get("cart"), book.revision) == (varied, None, 2)


def test_what_is_told_again_is_no_change() -> None:
    book = StateBook[Placement]()
    for _ in range(2):
        book.take([placement("home", diversity=0.5), placement("gone", deleted=True)])
    book.take([])
    assert book.revision == 1


def test_an_older_revision_that_comes_later_counts() -> None:
    """So it is where monitoring's database was lost, and numbers begin again."""
    book = StateBook[Placement]()
    book.take([placement("home", 7)])
    book.take([placement("home", 1, diversity=0.5)])
    found = book.get("home")
    assert found is not None and found.revision == 1
