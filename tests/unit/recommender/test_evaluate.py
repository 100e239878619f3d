import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from slipstream.contracts.progress import ProgressStep
from slipstream.evaluation.significance import bootstrap_mean
from slipstream.recommender.bundle import Bundle
from slipstream.recommender.evaluate import (
    evaluate,
)
from slipstream.recommender.fit import fit_log
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
            as_served=True,
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


def test_as_served_it_has_learned_all_but_the_test(left_out: dict[str, Any]) -> None:
    served = left_out["as_served"]
    assert served.keys() == left_out["metrics"].keys()
    assert served["ndcg@5"]["value"] > left_out["metrics"]["ndcg@5"]["value"] - 0.1


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


def test_items_that_were_bought_are_a_cohort(tmp_path: Path) -> None:
    table = chain_interactions()
    kinds = ["cart" if row % 8 == 3 else "view" for row in range(table.num_rows)]
    place = table.column_names.index("event_type")
    pq.write_table(table.set_column(place, "event_type", pa.array(kinds)), tmp_path / "a.parquet")
    result = evaluate(tmp_path / "a.parquet", "discovery", ks=(1,))
    assert 0 < result["cohorts"]["led_on"]["queries"] < result["queries"]
