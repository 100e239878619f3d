"""A part that breaks is a fault of the report, and the next part goes on."""

from tests.cluster.report import Report


def wait_for_nothing() -> None:
    raise AssertionError("waited 5 s for nothing")


def test_a_part_that_breaks_is_a_fault_beside_what_others_found() -> None:
    report = Report()
    with report.part("first", "1 First") as part:
        part.tell("seen", "something")
        wait_for_nothing()
    with report.part("second", "2 Second") as part:
        part.demand(True, "never")
        part.demand(False, "one pod too many")
    assert report.faults == [
        "first: AssertionError: waited 5 s for nothing",
        "second: one pod too many",
    ]
    assert [part["seen"] for part in report.as_json()] == [{"seen": "something"}, {}]
    assert "NOT AS IT MUST BE: one pod too many" in report.table()
