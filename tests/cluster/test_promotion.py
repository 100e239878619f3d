"""An answer that names another model than the one that gave it is found."""

from dataclasses import replace

from tests.cluster.load.pods import Answer
from tests.cluster.parts.promotion import judge_versions, mixed_spans
from tests.cluster.report import Part

LISTS = {"1": ("a", "b"), "2": ("b", "a")}


def answer(at_s: float, version: str | None, gave: str | None = None) -> Answer:
    return Answer(int(1_000 * at_s), "u0", 200, 5.0, version, LISTS[gave or version or "1"])


def calm(start_s: int, version: str) -> list[Answer]:
    return [answer(start_s + number / 10, version) for number in range(10)]


MIXED = [answer(1.0, "2"), answer(1.1, "1"), answer(1.2, "2")]
PROMOTION = [*calm(0, "1"), *MIXED, *calm(20, "2")]


def shifted(answers: list[Answer], by_s: int) -> list[Answer]:
    return [replace(each, at_ms=each.at_ms + 1_000 * by_s) for each in answers]


def faults(answers: list[Answer]) -> list[str]:
    part = Part("promotion", "")
    judge_versions(part, answers, ("1", "2"))
    return part.faults


def test_answers_of_both_models_at_once_are_as_they_must_be() -> None:
    assert faults(PROMOTION) == []


def test_a_list_of_the_other_model_is_found() -> None:
    assert faults([*PROMOTION, answer(25.0, "2", gave="1")]) == [
        "1 answers are not the list of the model that they name"
    ]


def test_answers_without_a_model_are_few() -> None:
    promotions = [each for start in range(0, 400, 40) for each in shifted(PROMOTION, start)]
    assert faults([*promotions, answer(450.0, None)]) == []
    late = [answer(450.0 + number, None) for number in range(5)]
    assert faults([*promotions, *late]) == ["trending items answered 5 requests"]


def test_a_promotion_of_all_replicas_at_once_shows_nothing() -> None:
    assert faults([*calm(0, "1"), *calm(20, "2")]) == [
        "the replicas never had different models while requests came"
    ]


def test_a_mixture_is_from_the_first_of_the_new_to_the_last_of_the_old() -> None:
    assert mixed_spans(PROMOTION) == [MIXED[:2]]
    assert mixed_spans([*PROMOTION, *calm(40, "1")]) == [MIXED[:2]]
