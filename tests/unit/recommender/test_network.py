"""How the network among the retrievers is trained: once, or for each of a few candidates, of which validation keeps the best."""

from dataclasses import replace
from pathlib import Path

import pytest

from slipstream.models.base import EventWeights
from slipstream.models.transformer_fit import fit_transformer
from slipstream.models.transformer_parameters import TransformerParameters
from slipstream.recommender import encoding
from slipstream.recommender.network import Learned, learn
from slipstream.recommender.profiles import PROFILES, alternatives, transformer_parameters
from slipstream.recommender.progress import FitStep
from tests.unit.recommender.chain import chain_interactions

SHOP = chain_interactions(visitors=150)
ITEM_IDS = encoding.catalogue(SHOP)
LOG = encoding.encode(SHOP, ITEM_IDS, EventWeights())
SMALL = TransformerParameters(dim=16, window=6, batch=200, epochs=3, learning_rate=1e-2, dropout=0.9)
OTHER = replace(SMALL, dropout=0.1)


def learned(folder: Path | None = None, told: list[FitStep] | None = None, **more: object) -> Learned:
    questions = encoding.queries(LOG, LOG.user.nonzero()[0][5::8])
    steps = [] if told is None else told
    return learn(
        LOG, questions, SMALL, SMALL, (OTHER,), repeats=False, terms=None, checkpoints=folder, progress=steps.append, **more
    )  # type: ignore[arg-type]  # fmt: skip


def test_the_candidate_that_validation_likes_best_is_kept(tmp_path: Path) -> None:
    told: list[FitStep] = []
    found = learned(tmp_path, told)
    assert found.parameters == OTHER  # nine of ten values dropped leave little to learn from
    assert [trial.parameters for trial in found.trials] == [SMALL, OTHER]
    assert max(found.curve["quality"]) == found.trials[1].quality
    shares = [step.done for step in told]
    assert shares == sorted(shares) and shares[-1] == 1
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.pt")) == [
        "0/transformer.pt", "1/transformer.pt",
    ]  # fmt: skip


def test_an_earlier_network_is_gone_on_from_by_its_own_parameters_alone() -> None:
    start = fit_transformer(LOG, SMALL).model
    found = learned(start=start)
    assert (found.parameters, found.trials) == (SMALL, [])


@pytest.mark.parametrize(("events", "dropouts"), [(100_000, [0.5]), (2_000_000, [])])
def test_the_best_profile_tries_another_dropout_where_a_training_is_short(events: int, dropouts: list[float]) -> None:
    profile = replace(PROFILES["best"], events=PROFILES["best"].events * len(LOG) // events)  # as if the log were so long
    own = transformer_parameters(profile, LOG)
    assert own.dropout == 0.3
    assert [one.dropout for one in alternatives(profile, own)] == dropouts
    assert alternatives(PROFILES["fast"], transformer_parameters(PROFILES["fast"], LOG)) == []
