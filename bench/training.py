"""Benchmark of fits on simulated shops of several sizes, and of the network's arithmetic.

Each fit has a process of its own, so that its peak memory is its own. It is judged as `evaluate`
judges a time-split. The network's steps are then timed alone, in one thread, as each of a fit's two
processes has, and set against a bare matrix product in one thread.
"""

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode, addmm_flop, register_flop_formula

from bench.load import in_own_process
from bench.measurements import Measurement
from slipstream.contracts.progress import ProgressStep
from slipstream.datasets.interactions import read_interactions, read_items
from slipstream.datasets.simulator import Simulation, simulate
from slipstream.models import distributed
from slipstream.models.base import EventWeights
from slipstream.models.transformer_training import NetworkInTraining
from slipstream.recommender import encoding
from slipstream.recommender.evaluate import evaluate
from slipstream.recommender.profiles import PROFILES, transformer_parameters
from slipstream.recommender.refit import describe, item_terms

EVENTS = (100_000, 1_000_000)
ITEMS = (20_000,)
# Events that the network's steps are timed on.
_TIMED_EVENTS = 100_000
_PRODUCT = 2_048
# torch counts no product that is added in place.
register_flop_formula(torch.ops.aten.addmm_, get_raw=True)(addmm_flop)


def run(
    folder: Path,
    events: Sequence[int] = EVENTS,
    items: Sequence[int] = ITEMS,
    profile: str = "fast",
    seed: int = 0,
    tell: Callable[[str], None] = lambda _: None,
) -> list[Measurement]:
    """Fit on shops of each number of events with each number of items.

    Args:
        folder: Folder of the simulated files, which are kept.
        tell: Gets what is done at present.
    """
    rows: list[Measurement] = []
    for size in events:
        for catalogue in items:
            tell(f"fitting on {size:,} events of {catalogue:,} items")
            made = folder / f"shop-{size}-{catalogue}-{seed}"
            in_own_process(simulated, made, size, catalogue, seed)
            rows.append(in_own_process(_fitted, made, profile, seed))
            rows += in_own_process(_network_steps, made, profile, seed)
    return rows


def simulated(made: Path, events: int, items: int, seed: int) -> None:
    """Write the files of a shop, unless they are there: twenty events a visitor."""
    if not (made / "interactions.parquet").exists():
        simulate(made, Simulation(max(1, events // 20), items, events, seed))


def _fitted(made: Path, profile: str, seed: int) -> Measurement:
    """Seconds of one fit, by its stages, with peak memory and NDCG@10 by stage."""
    stages: dict[str, float] = {}
    name, since = "reading", time.perf_counter()

    def timed(step: ProgressStep) -> None:
        nonlocal name, since
        now = time.perf_counter()
        stages[name] = stages.get(name, 0.0) + now - since
        name, since = step.stage.split(",")[0], now

    report = evaluate(
        made / "interactions.parquet",
        "time-split",
        made / "items.parquet",
        profile=profile,
        ks=(10,),
        seed=seed,
        progress=timed,
    )
    served, low, high = (report["metrics"]["ndcg@10"][part] for part in ("value", "low", "high"))
    gains = {
        **{part: means["ndcg@10"] for part, means in report["ablation"]["alone"].items()},
        "blend": report["ablation"]["blend"]["without ranker"]["ndcg@10"],
    }
    longest = sorted(stages.items(), key=lambda stage: -stage[1])
    curve = report["curve"]
    epochs = f"; epoch {curve['kept']} of {len(curve['loss'])} kept" if curve else ""
    return Measurement(
        name=f"{profile}, {report['data']['events']:,} events, {report['data']['items']:,} items",
        value=report["seconds"]["fit"],
        unit="s",
        note=f"{report['peak_memory_mb']:,.0f} MB at most; NDCG@10 {served:.4f} [{low:.4f},"
        f" {high:.4f}], {', '.join(f'{part} {gain:.4f}' for part, gain in gains.items())}{epochs};"
        f" {', '.join(f'{stage} {seconds:.0f} s' for stage, seconds in longest if seconds >= 1)}",
    )


def network_of(
    made: Path, profile: str, seed: int, most_events: int | None = None
) -> NetworkInTraining:
    """The network of a profile before its first step, on the events of a shop, or the first ones.

    Its parameters are those for all events.
    """
    table = read_items(made / "items.parquet")
    interactions = read_interactions(made / "interactions.parquet")
    item_ids = encoding.met_items(interactions, EventWeights())
    log = encoding.encode(interactions, item_ids, EventWeights())
    found = item_terms(describe(item_ids, encoding.attributes(table, item_ids)))
    terms = found.vectors if found else None
    parameters = transformer_parameters(PROFILES[profile], log)
    some = log.select(np.arange(min(most_events or len(log), len(log))))
    return NetworkInTraining(distributed.process_group(), some, parameters, terms, seed)


def _network_steps(made: Path, profile: str, seed: int) -> list[Measurement]:
    """The network's multiplications and additions a second in training."""
    network = network_of(made, profile, seed, _TIMED_EVENTS)
    some, parameters = network.log, network.parameters
    with distributed.one_thread():
        with FlopCounterMode(display=False) as counted:
            network.train_epoch(lambda _: None)  # slow: the time of the next pass counts
        began, steps = time.perf_counter(), network.step
        network.train_epoch(lambda _: None)
        seconds, steps = time.perf_counter() - began, network.step - steps
        ceiling = _product_speed()
    done = counted.get_total_flops() / seconds / 1e9
    return [
        Measurement(
            name="  a step of the network",
            value=1_000 * seconds / steps,
            unit="ms",
            note=f"{len(some) / seconds:,.0f} events/s, {parameters.batch:,} events a step",
        ),
        Measurement(
            name="  its arithmetic",
            value=done,
            unit="GFLOP/s",
            ceiling=ceiling,
            ratio=done / ceiling,
            note=f"set against a product of matrices of {_PRODUCT:,} rows, both in one thread",
        ),
    ]


def _product_speed() -> float:
    """GFLOP/s of a bare matrix product: the fastest of ten."""
    one, other = torch.randn(_PRODUCT, _PRODUCT), torch.randn(_PRODUCT, _PRODUCT)
    fastest = math.inf
    for _ in range(10):
        began = time.perf_counter()
        torch.mm(one, other)
        fastest = min(fastest, time.perf_counter() - began)
    return 2 * _PRODUCT**3 / fastest / 1e9
