import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipstream.contracts.progress import ProgressStep
from slipstream.evaluation.metrics import ndcg
from slipstream.evaluation.significance import bootstrap_mean
from slipstream.models.base import EventWeights, InteractionLog
from slipstream.recommender.bundle import Bundle
from slipstream.recommender.encoding import encode, met_items
from slipstream.recommender.evaluate import (
    Omission,
    compare,
    evaluate,
    parse_omission,
    visits,
    withhold,
)
from slipstream.recommender.fit import fit_log
from slipstream.recommender.protocols import Task, first_meetings, led_on, task_of
from slipstream.recommender.stages import Event, recommend
from tests.unit.recommender.chain import chain_interactions, chain_items


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("chain")
    pq.write_table(chain_interactions(), folder / "interactions.parquet")
    pq.write_table(chain_items("new-mauve"), folder / "items.parquet")
    test = chain_interactions(visitors=40, seed=7)
    prefixes, labels = [], []
    for begin in range(0, test.num_rows, 8):
        session = test["item_id"].slice(begin, 8).to_pylist()
        prefixes.append(session[:5])
        labels.append(session[5])
    pq.write_table(
        pa.table({"prefix": [*prefixes, ["gone"]], "label": [*labels, "gone"]}),
        folder / "queries.parquet",
    )
    return folder


@dataclass(frozen=True)
class Watched:
    """An evaluation, the bundles that it fitted, and the progress that it told."""

    result: dict[str, Any]
    bundles: list[Bundle]
    told: list[ProgressStep]


@pytest.fixture(scope="module")
def watched(files: Path) -> Watched:
    bundles: list[Bundle] = []
    told: list[ProgressStep] = []

    def remember(*arguments: Any, **named: Any) -> Bundle:
        bundles.append(fit_log(*arguments, **named))
        return bundles[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("slipstream.recommender.evaluate.fit_log", remember)
        result = evaluate(
            files / "interactions.parquet",
            "leave-last-out",
            items=files / "items.parquet",
            ks=(1, 5, 10),
            progress=told.append,
        )
    return Watched(result, bundles, told)


@pytest.fixture
def left_out(watched: Watched) -> dict[str, Any]:
    return watched.result


@pytest.fixture(scope="module")
def split(files: Path) -> dict[str, Any]:
    return evaluate(files / "interactions.parquet", "time-split", ks=(1,))


def test_leave_last_out_finds_the_ring(left_out: dict[str, Any]) -> None:
    assert left_out["queries"] == 300
    assert left_out["metrics"]["hit_rate@1"]["value"] > 0.7
    assert left_out["ablation"]["alone"]["rules"]["hit_rate@1"] > 0.7
    assert left_out["ablation"]["alone"]["popularity"]["hit_rate@1"] < 0.2


def test_leave_last_out_is_fitted_without_the_last_two_events_of_each_visitor(
    left_out: dict[str, Any],
) -> None:
    assert left_out["data"]["events"] == 300 * 8
    assert left_out["data"]["fitted_on"]["events"] == 300 * 6


def test_result_is_json_of_the_promised_shape(left_out: dict[str, Any]) -> None:
    assert json.loads(json.dumps(left_out)) == left_out
    promised = {
        "data",
        "protocol",
        "profile",
        "seconds",
        "peak_memory_mb",
        "queries",
        "metrics",
        "cohorts",
        "ablation",
    }
    assert promised <= set(left_out)
    assert set(left_out["seconds"]) == {"fit", "evaluate"}
    names = {f"{name}@{k}" for name in ("hit_rate", "ndcg", "mrr", "coverage") for k in (1, 5, 10)}
    assert set(left_out["metrics"]) == names
    for name, interval in left_out["metrics"].items():
        if not name.startswith("coverage"):
            assert interval["low"] <= interval["value"] <= interval["high"]
    assert set(left_out["ablation"]["alone"]) == set(left_out["ablation"]["without"])
    assert left_out["peak_memory_mb"] > 10


def test_a_cohort_is_told_of_as_a_training_run_tells_of_it(left_out: dict[str, Any]) -> None:
    whole, returning = left_out["cohorts"]["all"], left_out["cohorts"]["returning"]
    assert whole["queries"] == returning["queries"] == 300  # each has six events before
    assert whole["hit_rate@10"]["value"] == left_out["metrics"]["hit_rate@10"]["value"]
    assert whole["coverage@10"] == left_out["metrics"]["coverage@10"]["value"]
    assert whole["novelty@10"]["value"] > 0
    assert 0 < whole["diversity@10"]["value"] <= 1


def test_hidden_items_compete_as_new_ones(files: Path) -> None:
    given = files / "interactions.parquet", "leave-last-out", files / "items.parquet"
    found = evaluate(*given, ks=(10,), cold=0.2)
    assert found["data"]["items"] == 32
    hidden, others = found["cold"]["hidden, 0 events"], found["cold"]["other items"]
    assert hidden["queries"] + others["queries"] == found["queries"] == 300
    assert 0.05 < hidden["ndcg@10"]["value"] < others["ndcg@10"]["value"]
    assert hidden["recall@50"]["value"] > 0.9  # of 41 items
    unknown = evaluate(*given[:2], ks=(10,), cold=0.2)["cold"]["hidden, 0 events"]
    assert unknown["recall@50"]["value"] == 0

    some = evaluate(*given, ks=(10,), cold=0.2, cold_events=5)
    assert some["data"]["items"] == 40
    assert some["data"]["fitted_on"]["events"] == found["data"]["fitted_on"]["events"] + 8 * 5
    met = some["cold"]["hidden, 5 events and more"]
    assert met["queries"] == hidden["queries"] and met["ndcg@10"]["value"] > 0.3
    with pytest.raises(ValueError, match="share of hidden items"):
        evaluate(*given, cold_events=5)


def test_next_click_counts_what_serving_would_show(files: Path) -> None:
    result = evaluate(
        files / "interactions.parquet",
        "next-click",
        queries=files / "queries.parquet",
        ks=(10,),
        profile="fast",
    )
    queries = pq.read_table(files / "queries.parquet").to_pylist()
    assert result["queries"] == len(queries) == 41
    assert result["repeats"] is True
    assert 0.5 < result["metrics"]["hit_rate@10"]["value"] <= 40 / 41
    assert result["cohorts"]["cold"]["queries"] == 1  # the item that is not in the catalogue


def test_time_split_predicts_the_last_events_from_the_first(split: dict[str, Any]) -> None:
    assert split["data"]["fitted_on"]["until"] < split["data"]["until"]
    assert split["queries"] > 300
    assert split["metrics"]["hit_rate@1"]["value"] > 0.6


def test_a_time_split_can_keep_out_the_last_days(files: Path, split: dict[str, Any]) -> None:
    whole = split["data"]
    days = (whole["until"] - whole["from"]) / 86_400_000
    result = evaluate(files / "interactions.parquet", "time-split", ks=(1,), last_days=days / 10)
    assert (
        result["data"]["fitted_on"]["until"]
        <= whole["until"] - (whole["until"] - whole["from"]) / 10
    )
    assert result["data"]["fitted_on"]["until"] > whole["fitted_on"]["until"]
    assert result["ablation"]["ahead"]["popularity"]["ndcg@1"]["low"] > 0
    with pytest.raises(ValueError, match="nothing is left to fit on"):
        evaluate(files / "interactions.parquet", "time-split", last_days=2 * days)
    with pytest.raises(ValueError, match="of a time-split or discovery only"):
        evaluate(files / "interactions.parquet", "leave-last-out", last_days=1)


def test_events_of_one_moment_cannot_be_split(tmp_path: Path) -> None:
    rows = "\n".join(f"u{number % 9},i{number % 7},1700000000000" for number in range(60))
    (tmp_path / "events.csv").write_text("user_id,item_id,timestamp\n" + rows)
    with pytest.raises(ValueError, match="same moment: nothing is left to fit on"):
        evaluate(tmp_path / "events.csv", "time-split")


def test_a_list_measured_is_the_list_served(watched: Watched) -> None:
    """The figure is recomputed with `recommend`, the function behind the endpoint."""
    bundle, table = watched.bundles[0], chain_interactions()
    hits = []
    for begin in range(0, table.num_rows, 8):
        rows = table.slice(begin, 8).to_pylist()
        history = [Event(row["item_id"], row["event_type"], row["timestamp"]) for row in rows[:-1]]
        hits.append(rows[-1]["item_id"] in [one.item_id for one in recommend(bundle, history, 5)])
    metrics = watched.result["metrics"]
    assert metrics["hit_rate@5"]["value"] == pytest.approx(np.mean(hits))
    assert metrics["hit_rate@5"] == bootstrap_mean(np.array(hits, float))._asdict()


def test_progress_is_told(watched: Watched) -> None:
    assert (watched.told[0].stage, watched.told[0].share) == ("reading", 0.0)
    assert (watched.told[-1].stage, watched.told[-1].share) == ("predicting", 1.0)
    assert all(step.share is not None and 0 <= step.share <= 1 for step in watched.told)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"protocol": "hold-out"}, "unknown protocol 'hold-out'"),
        ({"protocol": "next-click"}, "query file"),
        ({"protocol": "time-split", "queries": "queries.parquet"}, "query file"),
        ({"protocol": "leave-last-out", "ks": ()}, "k must be"),
        ({"protocol": "leave-last-out", "ks": (0,)}, "k must be"),
        ({"protocol": "leave-last-out", "profile": "slow"}, "unknown profile"),
    ],
)
def test_evaluate_refuses_what_it_cannot_do(
    files: Path, arguments: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        evaluate(files / "interactions.parquet", **arguments)


def test_evaluate_refuses_a_file_with_nothing_to_predict(tmp_path: Path) -> None:
    pq.write_table(chain_interactions(visitors=3, length=2), tmp_path / "few.parquet")
    with pytest.raises(ValueError, match="nothing to predict"):
        evaluate(tmp_path / "few.parquet", "leave-last-out")


TYPES = ("view", "cart", "purchase")
EVENTS = st.lists(
    st.tuples(
        st.sampled_from("abc"),
        st.sampled_from("vwxyz"),
        st.sampled_from(TYPES),
        st.integers(0, 20),
    ),
    min_size=12,
    max_size=60,
)
WEIGHTS = EventWeights()
HOUR = 3_600_000


def table_of(rows: list[tuple[str, str, str, int]]) -> pa.Table:
    user, item, kind, hour = zip(*rows, strict=True)
    return pa.table(
        {
            "user_id": pa.array(user),
            "item_id": pa.array(item),
            "event_type": pa.array(kind),
            "timestamp": pa.array([HOUR * number for number in hour], pa.int64()),
        }
    )


def without(
    table: pa.Table, protocol: str, omission: Omission
) -> tuple[InteractionLog, Task, Task]:
    ids = met_items(table, WEIGHTS)
    log = encode(table, ids, WEIGHTS)
    task = task_of(protocol, log, [], "fast", None)
    return log, task, withhold(task, log, table, ids, WEIGHTS, omission)


def omission(*types: str, lasting_id: bool = False) -> Omission:
    return Omission(frozenset(types), frozenset(), lasting_id)


@given(EVENTS, st.sampled_from(["leave-last-out", "time-split", "discovery"]))
def test_leaving_nothing_out_changes_nothing(
    rows: list[tuple[str, str, str, int]], protocol: str
) -> None:
    try:
        _, task, same = without(table_of(rows), protocol, omission())
    except ValueError:
        return  # all events at one moment
    np.testing.assert_array_equal(same.log.item, task.log.item)
    np.testing.assert_array_equal(same.log.user, task.log.user)
    assert [query.label for query in same.queries] == [query.label for query in task.queries]
    for query, other in zip(same.queries, task.queries, strict=True):
        np.testing.assert_array_equal(query.history.item, other.history.item)
    if task.holdout and same.holdout:
        np.testing.assert_array_equal(same.holdout.validation, task.holdout.validation)


@given(EVENTS, st.sampled_from(["leave-last-out", "time-split", "discovery"]))
def test_a_type_left_out_is_in_no_fit_and_no_history_and_the_questions_stay(
    rows: list[tuple[str, str, str, int]], protocol: str
) -> None:
    try:
        log, task, reduced = without(table_of(rows), protocol, omission("view"))
    except ValueError:
        return
    signals = {WEIGHTS.weight("cart"), WEIGHTS.weight("purchase")}
    assert set(reduced.log.weight.tolist()) <= signals
    assert [query.label for query in reduced.queries] == [query.label for query in task.queries]
    for query, whole in zip(reduced.queries, task.queries, strict=True):
        kept = whole.history.weight > WEIGHTS.weight("view")
        np.testing.assert_array_equal(query.history.item, whole.history.item[kept])
    np.testing.assert_array_equal(reduced.log.item, log.item[reduced.fitted])
    if task.holdout and reduced.holdout:
        validation = task.fitted[task.holdout.validation]
        theirs = log.item[validation][log.weight[validation] > 1]
        np.testing.assert_array_equal(reduced.log.item[reduced.holdout.validation], theirs)


def test_without_a_lasting_id_a_history_begins_with_the_visit() -> None:
    rows = [("a", "v", "view", 0), ("a", "w", "view", 0), ("a", "x", "view", 5)]
    table = table_of([*rows, ("a", "y", "view", 5), ("b", "z", "view", 6)])
    log, task, reduced = without(table, "leave-last-out", omission(lasting_id=True))
    assert visits(log).tolist() == [0, 0, 1, 1, 2]
    (whole,), (query,) = task.queries, reduced.queries
    assert whole.history.item.tolist() == [0, 1, 2]
    assert query.history.item.tolist() == [2]
    assert query.label == whole.label == 3
    assert reduced.log.user.tolist() == [0, 0, 1, 1, 2]


def test_an_item_shown_counts_as_taken_only_by_an_event_that_was_sent() -> None:
    rows = [("a", "v", "impression", 0), ("a", "v", "view", 1), ("a", "w", "cart", 2)]
    table = table_of([*rows, ("b", "w", "view", 3), ("b", "v", "cart", 4), ("b", "x", "cart", 9)])
    lists = ["r", "r", None, None, None, None]
    table = table.append_column("recommendation_id", pa.array(lists))
    table = table.append_column("position", pa.array([0, 0, None, None, None, None], pa.int64()))
    for left_out, taken in (((), [True]), (("view",), [False])):
        _, _, reduced = without(table, "time-split", omission(*left_out))
        assert reduced.log.impressions is not None
        assert reduced.log.impressions.taken.tolist() == taken
    assert without(table, "time-split", omission("impression"))[2].log.impressions is None


def test_discovery_asks_for_items_that_the_visitor_has_not_met() -> None:
    rows = [("a", item, "view", hour) for hour, item in enumerate("vwvxvyxz")]
    _, task, _ = without(table_of(rows), "discovery", omission())
    assert task.repeats is False
    assert [query.label for query in task.queries] == [4]  # z; x was met before the split
    assert [len(query.history.item) for query in task.queries] == [7]


def test_a_first_event_led_on_where_its_item_was_bought_later() -> None:
    rows = [("a", "v", "view", 0), ("a", "w", "view", 1), ("a", "v", "view", 2)]
    table = table_of([*rows, ("a", "v", "cart", 3), ("b", "v", "view", 4)])
    log = encode(table, met_items(table, WEIGHTS), WEIGHTS)
    assert first_meetings(log).tolist() == [True, True, False, False, True]
    assert led_on(log).tolist() == [True, False, False, False, False]


def test_nothing_to_fit_on_is_an_error() -> None:
    rows = [("a", item, "view", hour) for hour, item in enumerate("vwxyz")]
    with pytest.raises(ValueError, match="nothing is left to fit on"):
        without(table_of(rows), "time-split", omission("view"))


def test_a_part_is_named_by_types_and_attributes() -> None:
    types, names = ["view", "cart"], ["brand", "price"]
    assert parse_omission("cart + attribute:brand", types, names) == Omission(
        frozenset({"cart"}), frozenset({"brand"}), False
    )
    assert parse_omission("attributes+lasting-id", types, names) == Omission(
        frozenset(), frozenset(names), True
    )
    left = parse_omission("attribute:brand", types, names).described(
        {"x": {"brand": "b", "price": 1}, "y": {"price": 2}}
    )
    assert left == {"x": {"price": 1}, "y": {"price": 2}}
    with pytest.raises(ValueError, match=r"no 'Kauf'.* are cart, view, attribute:brand, .*lasting"):
        parse_omission("Kauf", types, names)
    with pytest.raises(ValueError, match="there are view, lasting-id"):
        parse_omission("attributes", ["view"], [])


def test_changes_are_paired_on_the_queries() -> None:
    whole, reduced = np.array([0, 0, 5]), np.array([0, 1, 5])
    masks = {"all": np.ones(3, np.bool_), "some": np.array([True, False, False])}
    found = compare(whole, reduced, masks, {"ndcg@2": lambda ranks: ndcg(ranks, 2)}, seed=0)
    assert found["some"]["ndcg@2"] == {
        "value": 1.0,
        "change": {"value": 0.0, "low": 0.0, "high": 0.0},
    }
    change = found["all"]["ndcg@2"]["change"]
    assert change["value"] == pytest.approx((1 / np.log2(3) - 1) / 3)
    assert change["low"] <= change["value"] <= change["high"] <= 0


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder: Path = tmp_path_factory.mktemp("chain")
    table = chain_interactions()
    kinds = ["cart" if row % 8 == 3 else "view" for row in range(table.num_rows)]
    place = table.column_names.index("event_type")
    pq.write_table(
        table.set_column(place, "event_type", pa.array(kinds)), folder / "events.parquet"
    )
    pq.write_table(chain_items("new"), folder / "items.parquet")
    return evaluate(
        folder / "events.parquet",
        "discovery",
        items=folder / "items.parquet",
        ks=(1,),
        without=["view", "attribute:title"],
    )


def test_without_its_views_a_ring_is_found_no_more(result: dict[str, Any]) -> None:
    assert json.loads(json.dumps(result)) == result
    whole = result["metrics"]["ndcg@1"]["value"]
    assert whole > 0.6
    views, title = (result["without"][part]["all"] for part in ("view", "attribute:title"))
    assert views["queries"] == title["queries"] == result["queries"]
    assert views["ndcg@1"]["change"]["high"] < -0.3
    assert views["ndcg@1"]["value"] == pytest.approx(whole + views["ndcg@1"]["change"]["value"])
    assert abs(title["ndcg@1"]["change"]["value"]) < 0.1


def test_items_that_were_bought_are_a_cohort(result: dict[str, Any]) -> None:
    led_on = result["cohorts"]["led_on"]
    assert 0 < led_on["queries"] < result["queries"]
    assert result["without"]["view"]["led_on"]["queries"] == led_on["queries"]
