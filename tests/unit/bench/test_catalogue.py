import json
from pathlib import Path

import numpy as np
import pytest

from bench import catalogue
from bench.catalogue_worker import BUNDLE, HISTORIES, measure
from bench.load import in_own_process
from bench.measurements import table
from slipstream.recommender.bundle import save_bundle
from tests.unit.serving.fakes import ITEMS, small_bundle


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    save_bundle(small_bundle(), folder / BUNDLE)
    (folder / HISTORIES).write_text(json.dumps([ITEMS[place : place + 3] for place in range(5)]))
    return folder


def test_each_size_has_times_with_and_without_a_filter_recall_and_memory(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures = in_own_process(measure, made)
    assert len(figures.plain) == len(figures.filtered) == 5
    assert np.isfinite(figures.plain).all()
    assert figures.short == 0  # a filter that keeps few items still fills the list
    assert figures.recall == (1.0, 1.0)
    assert figures.private_mb > figures.further_mb > 0
    monkeypatch.setattr(catalogue, "in_own_process", lambda function, *_: function(*_))
    monkeypatch.setattr(catalogue, "simulated_model", lambda *_: made)
    monkeypatch.setattr(catalogue, "measure", lambda *_: figures)
    rows = catalogue.run(made, (len(ITEMS), 2 * len(ITEMS)))
    assert len(rows) == 10
    assert rows[5]["ratio"] == pytest.approx(1)
    assert "0 of 5 lists are not full" in table(rows)
