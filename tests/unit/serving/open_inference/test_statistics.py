from services.serving.open_inference.statistics import Statistics


def test_visitors_requests_and_durations_are_counted_by_size() -> None:
    statistics = Statistics()
    statistics.succeeded("7", 2, (1, 10, 100))
    statistics.succeeded("7", 2, (1, 10, 100))
    statistics.succeeded("7", 1, (5, 5, 5))
    statistics.failed("7", 9)
    [of_model] = statistics.described("7")["model_stats"]
    assert (of_model["name"], of_model["version"]) == ("recommender", "7")
    assert (of_model["inference_count"], of_model["execution_count"]) == (5, 3)
    assert of_model["last_inference"] > 0
    assert of_model["inference_stats"]["success"] == {"count": 3, "ns": 237}
    assert of_model["inference_stats"]["fail"] == {"count": 1, "ns": 9}
    assert of_model["inference_stats"]["compute_infer"] == {"count": 3, "ns": 25}
    sizes = {each["batch_size"]: each["compute_output"] for each in of_model["batch_stats"]}
    assert sizes == {1: {"count": 1, "ns": 5}, 2: {"count": 2, "ns": 200}}


def test_a_version_that_has_answered_nothing_has_zeros() -> None:
    [of_model] = Statistics().described("7")["model_stats"]
    assert (of_model["inference_count"], of_model["batch_stats"]) == (0, [])


def test_two_versions_are_kept() -> None:
    statistics = Statistics()
    for version in ("1", "2", "3"):
        statistics.succeeded(version, 1, (1, 1, 1))
    assert [each["version"] for each in statistics.described()["model_stats"]] == ["2", "3"]
