"""A whole run on a small lake, with the real models."""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pyarrow as pa
import pytest

from services.training.gate import decide
from services.training.run.dataset import TooLittleDataError, read_dataset
from services.training.run.job import Job, ProgressReporter, TrainingResult
from services.training.run.train import (
    hold_out,
    samples,
    train,
)
from services.training.settings import GateSettings, TrainingSection
from slipstream.chassis.settings import LakeSettings
from slipstream.contracts.progress import Progress, ProgressStep
from slipstream.contracts.steps import STEP_OF_STAGE
from slipstream.contracts.times import DAY_MS
from slipstream.evaluation.figures import cohorts
from slipstream.features.views import RECOMMENDER, VISITOR
from slipstream.models.base import EventWeights
from slipstream.recommender.bundle import load_bundle
from slipstream.recommender.fit import FitOptions, fit_log
from slipstream.recommender.stages import Event, recommend
from slipstream.stores.lake import Lake
from tests.unit.recommender.floods import flood
from tests.unit.training.histories import START_MS, chain, events, write, write_items
from tests.unit.training.jobs import job_of
from tests.unit.training.shops import moment, ordered
from tests.unit.training.test_lake_erasures import erase

Make = Callable[..., Job]


@pytest.fixture
def job(lake_settings: LakeSettings, tmp_path: Path) -> Make:
    def make(version: str, champion: Path | None = None, **training: Any) -> Job:
        return job_of(
            tmp_path,
            version=version,
            lake=lake_settings,
            output=tmp_path / version,
            checkpoints=tmp_path / "checkpoints",
            champion=champion,
            training=TrainingSection(**training),
        )

    return make


def quiet() -> ProgressReporter:
    return ProgressReporter(lambda _message: None)


def test_train_writes_a_bundle_that_recommends_what_comes_next(lake: Lake, job: Make) -> None:
    write(lake, chain())
    write_items(lake, [(f"i{n}", {"title": f"Item {n}"}, False, 0) for n in range(12)])
    messages: list[dict[str, Any]] = []
    trained = train(job("v1"), ProgressReporter(messages.append))

    bundle = load_bundle(job("v1").output)
    history = [Event("i3", "view", START_MS), Event("i4", "view", START_MS + 1_000)]
    assert recommend(bundle, history, 1)[0].item_id == "i5"
    manifest = bundle.manifest
    assert (manifest.version, manifest.lake_version, manifest.data.events) == (
        "v1",
        trained.lake_version,
        360,
    )
    assert trained.lake_version == lake.version("interactions")
    assert set(manifest.features) == set(RECOMMENDER.of(VISITOR))
    assert (
        manifest.metrics.figures["ndcg@10"]
        == trained.metrics["ndcg@10"]
        > trained.metrics["popularity/ndcg@10"]
    )
    assert bundle.attributes is not None
    assert bundle.attributes["i0"] == {"title": "Item 0"}

    measured = trained.measured
    assert measured.popularity.queries == trained.metrics["queries"] == 3 * measured.visitors > 10
    assert measured.champion is None
    assert measured.bundle_bytes == sum(
        path.stat().st_size for path in job("v1").output.iterdir() if path.name != "manifest.json"
    )
    returning = trained.figures["challenger"]["returning"]
    assert (
        trained.metrics["cohort/returning/queries"]
        == returning.queries
        == measured.cohorts["returning"].queries
    )
    mean = returning.means["ndcg@10"]
    assert manifest.metrics.figures["cohort/returning/ndcg@10"] == mean.value
    intervals = load_bundle(job("v1").output).manifest.metrics.intervals
    assert intervals is not None
    assert intervals["cohort/returning/ndcg@10"] == (mean.low, mean.high)
    assert {item.title for one in trained.samples for item in one.challenger} <= {
        f"Item {n}" for n in range(12)
    }
    assert trained.environment["numpy"] == np.__version__
    assert TrainingResult.model_validate_json(trained.model_dump_json()) == trained
    progress = [message["progress"] for message in messages]
    assert progress == sorted(progress)
    assert any(message.get("lake_rows") == 360 for message in messages)
    assert {STEP_OF_STAGE[stage] for stage in trained.seconds} == {
        "snapshot",
        "validate",
        "train",
        "evaluate",
    }
    assert messages[-1]["stage"] in trained.seconds
    outputs = next(each["outputs"] for each in reversed(messages) if "outputs" in each)
    assert outputs["snapshot"]["lake_version"] == trained.lake_version
    assert {found["check"] for found in outputs["validate"]["findings"]} == {
        "no_purchases",
        "silence",
    }
    assert outputs["evaluate"]["ndcg@10"] == trained.metrics["ndcg@10"]
    assert set(trained.seconds) >= {
        "reading the lake",
        "fitting the challenger",
        "judging",
        "fitting on everything",
    }


def test_train_ratings_count_by_their_value_where_there_is_a_scale(lake: Lake, job: Make) -> None:
    write(lake, chain())
    train(job("scaled", rating_scale=5.0), quiet())
    train(job("plain"), quiet())
    scales = [
        load_bundle(job(version).output).event_weights.rating_scale
        for version in ("scaled", "plain")
    ]
    assert scales == [5.0, None]


def test_train_same_lake_version_and_seed_gives_same_model(lake: Lake, job: Make) -> None:
    write(lake, chain())
    first, second = train(job("v1"), quiet()), train(job("v2"), quiet())
    assert first.metrics == second.metrics
    assert first.data_sha256 == second.data_sha256
    arrays = [
        {p.name: p.read_bytes() for p in job(version).output.glob("*.npy")}
        for version in ("v1", "v2")
    ]
    assert arrays[0] == arrays[1]


def test_train_gives_the_fit_what_outlives_it_and_tells_how_far_it_is(
    lake: Lake, job: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    class KilledError(Exception): ...

    def killed(_log: Any, _ids: Any, _of: Any, options: FitOptions, progress: Progress) -> None:
        assert options.checkpoints is not None
        (options.checkpoints / "network").touch()
        progress(ProgressStep("training the network", 0.5, epoch=2, epochs=4, loss=1.5))
        raise KilledError

    monkeypatch.setattr("services.training.run.train.fit_log", killed)
    write(lake, chain())
    messages: list[dict[str, Any]] = []
    asked = job("v1")
    asked.checkpoints.mkdir()
    with pytest.raises(KilledError):
        train(asked, ProgressReporter(messages.append))
    assert (asked.checkpoints / "network").exists()
    assert messages[-2]["progress"] < messages[-1]["progress"] < 1
    names = ("stage", "detail", "epoch", "epochs", "loss")
    assert [messages[-1][name] for name in names] == [
        "fitting the challenger", "training the network", 2, 4, 1.5,
    ]  # fmt: skip


def test_train_compares_with_champion_on_what_it_has_not_seen(lake: Lake, job: Make) -> None:
    write(lake, chain())
    train(job("v1"), quiet())
    write(lake, chain(seed=1, start_ms=START_MS + 20 * DAY_MS))
    asked = job("v2", champion=job("v1").output)
    asked.champion_version = "v1"
    trained = train(asked, quiet())
    assert trained.champion_version == "v1"
    against = trained.measured.champion
    assert against is not None
    assert against.queries == trained.metrics["queries"]
    assert against.other == trained.metrics["champion/ndcg@10"] > 0.2
    assert against.difference.low <= against.difference.value <= against.difference.high
    assert all(one.champion and one.challenger for one in trained.samples)


def test_train_again_on_same_data_compares_with_nothing(lake: Lake, job: Make) -> None:
    write(lake, chain())
    train(job("v1"), quiet())
    trained = train(job("v2", champion=job("v1").output), quiet())
    assert trained.measured.champion is None
    assert "champion/ndcg@10" not in trained.metrics
    assert all(one.champion for one in trained.samples)  # which people may compare all the same


def test_train_champion_that_cannot_be_loaded_is_named(
    lake: Lake, job: Make, tmp_path: Path
) -> None:
    write(lake, chain())
    trained = train(job("v1", champion=tmp_path / "lost"), quiet())
    assert "manifest.json" in trained.champion_error
    assert trained.measured.champion is None


def test_train_too_little_data_says_what_is_needed_and_writes_nothing(
    lake: Lake, job: Make
) -> None:
    write(lake, chain(visitors=3))
    with pytest.raises(TooLittleDataError, match=r"36 events on items \(at least 200\)"):
        train(job("v1"), quiet())
    assert not job("v1").output.exists()


def test_train_events_of_one_moment_cannot_be_split(lake: Lake, job: Make) -> None:
    write(lake, events([(f"v{n % 5}", f"i{n % 7}", "view", START_MS) for n in range(300)]))
    with pytest.raises(TooLittleDataError, match="same moment"):
        train(job("v1"), quiet())


def test_train_strangers_only_leave_nothing_to_ask(lake: Lake, job: Make) -> None:
    write(lake, events([(f"v{n}", f"i{n % 7}", "view", START_MS + n) for n in range(300)]))
    with pytest.raises(TooLittleDataError, match="no visitor of the test period has a history"):
        train(job("v1"), quiet())


def test_only_runs_of_the_best_profile_search(
    lake: Lake, job: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(lake, chain())

    class AskedError(Exception):
        pass

    def fit_log(_log: Any, _ids: Any, _of: Any, options: FitOptions, _progress: Any) -> None:
        raise AskedError(options.search_s)

    monkeypatch.setattr("services.training.run.train.fit_log", fit_log)
    for profile, seconds in (("fast", 0), ("best", 90)):
        with pytest.raises(AskedError, match=f"^{seconds}"):
            train(job("v1", search_minutes=1.5).model_copy(update={"profile": profile}), quiet())


@pytest.mark.parametrize(
    ("learned_from", "erased", "keeps"),
    [
        pytest.param(0, False, True, id="no erasure"),
        pytest.param(0, True, False, id="knows the erased"),
        pytest.param(1, True, True, id="learned after the erasure"),
        pytest.param(None, False, False, id="fitted on who knows what"),
        pytest.param(99, False, False, id="of a lake that was lost"),
    ],
)
def test_choices_that_were_made_on_the_erased_are_not_kept(
    lake: Lake,
    job: Make,
    monkeypatch: pytest.MonkeyPatch,
    learned_from: int | None,
    erased: bool,
    keeps: bool,
) -> None:
    for _ in range(3):
        write(lake, chain())
    if erased:
        erase(lake, 1, 1_000)

    class AskedError(Exception):
        pass

    def fit_log(_log: Any, _ids: Any, _of: Any, options: FitOptions, _progress: Any) -> None:
        raise AskedError(options.keeps)

    champion = Mock()
    champion.manifest = Mock(learned_from=learned_from, created_at=1_001)
    champion.manifest.data.until = None
    monkeypatch.setattr("services.training.run.train.fit_log", fit_log)
    monkeypatch.setattr("services.training.run.train._champion", lambda _: (champion, ""))
    with pytest.raises(AskedError, match=f"^{keeps}$"):
        train(job("v1"), quiet())


def test_a_run_keeps_the_champions_choices_and_tells_how_old_they_are(
    lake: Lake, job: Make
) -> None:
    write(lake, chain())
    train(job("v1"), quiet())
    first = load_bundle(job("v1").output).manifest
    assert first.learned_from == first.lake_version == 1
    write(lake, chain())
    train(job("v2", champion=job("v1").output), quiet())
    second = load_bundle(job("v2").output).manifest
    assert (second.version, second.lake_version, second.learned_from) == ("v2", 2, 1)
    for name in ("chosen_until", "blend", "rules"):
        assert second.parameters[name] == first.parameters[name]


@pytest.mark.parametrize(
    ("champion_until", "questions", "cut", "unseen"),
    [
        (None, 600, 900, True),
        (899, 600, 900, True),
        (900, 600, 901, True),
        (979, 600, 980, True),
        (980, 600, 900, False),
        (5_000, 600, 900, False),
        # with enough newer data, the challenger's validation and the test are both new to the
        # champion
        (899, 50, 950, True),
        (699, 50, 900, True),
        (949, 50, 950, True),
        (949, 25, 975, True),
    ],
)
def test_hold_out_moves_past_what_the_champion_was_fitted_on(
    lake: Lake, champion_until: int | None, questions: int, cut: int, unseen: bool
) -> None:
    write(lake, events([(f"v{n % 5}", f"i{n % 7}", "view", n) for n in range(1_000)]))
    dataset = read_dataset(lake)
    settings = TrainingSection(test_share=0.1, max_test_queries=20)
    signals = dataset.signals(EventWeights())
    held_out = hold_out(dataset, signals, ~signals, champion_until, settings, questions)
    assert (held_out.cut, held_out.unseen_by_champion) == (cut, unseen)
    times = dataset.interactions["timestamp"].to_numpy()
    assert times[held_out.fit].max() < cut <= times[held_out.test].min()
    assert not np.isin(np.flatnonzero(held_out.fit), held_out.test).any()


@pytest.mark.parametrize(
    ("champion_until", "onset", "cut", "unseen"),
    [
        pytest.param(99, 800, 900, True, id="half of what came since the shift"),
        pytest.param(99, 900, 950, True, id="all of the usual tenth is since the shift"),
        pytest.param(99, 500, 900, True, id="never more than the usual tenth"),
        pytest.param(949, 900, 975, True, id="a champion that knows a part of the shift"),
        pytest.param(99, 962, 900, False, id="too few since the shift"),
        pytest.param(99, 5_000, 900, False, id="nothing since the shift"),
        pytest.param(None, 900, 950, True, id="a champion that does not say what it knows"),
    ],
)
def test_hold_out_after_a_shift_halves_what_came_since(
    lake: Lake, champion_until: int | None, onset: int, cut: int, unseen: bool
) -> None:
    write(lake, events([(f"v{n % 5}", f"i{n % 7}", "view", n) for n in range(1_000)]))
    dataset = read_dataset(lake)
    signals = dataset.signals(EventWeights())
    held_out = hold_out(dataset, signals, ~signals, champion_until, TrainingSection(), 600, onset)
    assert (held_out.cut, held_out.unseen_by_champion) == (cut, unseen)


def test_after_a_shift_choices_are_made_again_and_the_measurements_name_it(
    lake: Lake, job: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(lake, chain())
    train(job("v1"), quiet())
    write(lake, chain())
    asked: list[FitOptions] = []

    def fit(*arguments: Any) -> Any:
        asked.append(arguments[3])
        return fit_log(*arguments)

    monkeypatch.setattr("services.training.run.train.fit_log", fit)
    champion = job("v1").output
    shifted = {"onset": START_MS + 1}
    trained = train(job("v2", champion=champion).model_copy(update=shifted), quiet())
    assert {(each.keeps, each.onset) for each in asked} == {(False, START_MS + 1)}
    assert trained.measured.onset == START_MS + 1
    first = train(job("v3").model_copy(update=shifted), quiet())
    assert first.measured.onset is None  # without a champion there is nothing to answer


def test_hold_out_asks_at_most_a_few_questions_about_each_visitor_with_a_history(
    lake: Lake,
) -> None:
    times = np.arange(1_000)
    rows = [("busy" if n % 2 else f"v{n % 80}", f"i{n % 7}", "view", n) for n in times.tolist()]
    write(lake, events([*rows, ("new", "i1", "view", 999)]))
    dataset = read_dataset(lake)
    signals = dataset.signals(EventWeights())
    held_out = hold_out(dataset, signals, ~signals, None, TrainingSection(test_share=0.2), 50)
    asked = dataset.interactions["user_id"].take(held_out.test).to_pylist()
    assert {user: asked.count(user) for user in asked} == {
        "busy": 3,
        **{f"v{n}": (3 if n < 40 else 2) for n in range(0, 80, 2)},
    }


@pytest.mark.parametrize(
    ("unlisted", "asks_about_listed"),
    [
        pytest.param(range(0, 2_000, 2), False, id="enough that no list led to"),
        pytest.param(range(0, 2_000, 200), True, id="too few that no list led to"),
    ],
)
def test_hold_out_asks_about_what_no_list_led_to(
    lake: Lake, unlisted: range, asks_about_listed: bool
) -> None:
    table = events([(f"v{n % 100}", f"i{n % 7}", "view", n) for n in range(2_000)])
    named = pa.array([None if n in unlisted else f"list-{n}" for n in range(2_000)])
    place = table.schema.get_field_index("recommendation_id")
    write(lake, table.set_column(place, "recommendation_id", named))
    dataset = read_dataset(lake)
    signals = dataset.signals(EventWeights())
    held_out = hold_out(dataset, signals, ~signals, None, TrainingSection(test_share=0.2), 50)
    asked = dataset.interactions["recommendation_id"].take(held_out.test)
    assert len(asked) >= 100 and (asked.null_count < len(asked)) == asks_about_listed


def test_a_run_does_not_ask_about_the_item_just_looked_at(lake: Lake, job: Make) -> None:
    rows = [
        (row["user_id"], row["item_id"], kind, row["timestamp"] + later)
        for row in chain().to_pylist()
        for kind, later in (("view", 0), ("cart", 1_000))
    ]
    write(lake, events(rows))
    trained = train(job("v1"), quiet())
    assert trained.samples and trained.measured.listed == 0
    assert all(each.history[-1].item_id != each.next_item.item_id for each in trained.samples)


def scripted(gaps: str) -> pa.Table:
    """Twenty visitors who walk through 250 items in their order, after the persons of `chain`."""
    log = flood(gaps, visitors=20, events=100, items=250, start_ms=START_MS + 11 * DAY_MS + 123)
    rows = zip(*(part.tolist() for part in log), strict=True)
    return events([(f"bot{bot}", f"i{item}", "view", at) for bot, item, at in rows], first=10_000)


def test_train_a_flood_changes_nothing_about_the_model(lake: Lake, job: Make) -> None:
    write(lake, chain(items=250))
    alone = train(job("v1"), quiet())
    write(lake, scripted("steady"))
    flooded = train(job("v2"), quiet())
    assert (alone.scripted.visitors, flooded.scripted.visitors) == (0, 20)
    assert flooded.metrics == alone.metrics
    assert flooded.data_sha256 == alone.data_sha256


def test_train_a_flood_that_acts_as_persons_do_is_refused_by_the_gate(
    lake: Lake, job: Make
) -> None:
    write(lake, chain(items=250))
    write(lake, scripted("as a person's"))
    trained = train(job("v1"), quiet())
    assert trained.scripted.visitors == 0
    assert trained.measured.popularity.queries == 3 * trained.measured.visitors
    decision = decide(trained.measured, None, GateSettings())
    assert (decision.outcome, decision.reason[:20]) == ("refused", "too good to be true:")


QUERIES = [moment("c", "a"), *(moment("b", *"ac" * 10) for _ in range(20))]
COHORTS = cohorts(
    np.array([len(query.state.sequence) for query in QUERIES]), np.array([9] * 20 + [0])
)


def test_samples_show_both_lists_for_some_visitors_of_each_cohort() -> None:
    drawn = samples(
        QUERIES,
        COHORTS,
        ordered("a", "b", "c"),
        ordered("c", "b", "a"),
        {"a": {"title": "Apron"}},
        seed=0,
    )
    assert sorted(one.cohorts for one in drawn) == [
        ["new"],
        ["returning"],
        ["returning"],
        ["returning", "cold"],
    ]
    newcomer = drawn[0]
    assert [(item.item_id, item.title) for item in newcomer.history] == [("a", "Apron")]
    assert newcomer.next_item.item_id == "c"
    assert [item.item_id for item in newcomer.challenger] == ["b", "c"]
    assert newcomer.champion is not None and [item.item_id for item in newcomer.champion] == [
        "c",
        "b",
    ]
    assert {item.source for item in newcomer.challenger} == {"popularity"}
    assert all(len(one.history) <= 10 for one in drawn)


def test_samples_are_the_same_for_the_same_seed_and_need_no_champion() -> None:
    first, second = (
        samples(QUERIES, COHORTS, ordered("a", "b", "c"), None, {}, seed=3) for _ in range(2)
    )
    assert first == second
    assert {one.champion is None for one in first} == {True}
