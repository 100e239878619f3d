"""The sound part of a bundle: what is left to answer with when retrievers or the ranker fail.

The stages know nothing of this. Their callers ask here after a failure, so that an intact bundle
pays nothing.
"""

from collections.abc import Callable, Container, Iterable
from dataclasses import replace
from typing import TypeVar

import numpy as np

from slipstream.recommender.bundle import Bundle
from slipstream.recommender.stages import AnyEvent, encode_history

RANKER = "ranker"

Answer = TypeVar("Answer")


class UnsoundError(RuntimeError):
    """No part of the bundle is left that could answer."""


def answer_without_failed_parts(
    bundle: Bundle, history: Iterable[AnyEvent], answer: Callable[[Bundle], Answer]
) -> tuple[Answer, dict[str, Exception]]:
    """The answer of a bundle, without the parts that fail.

    Args:
        bundle: The bundle.
        history: The history that the answer is for; the parts are tried with it.
        answer: Runs the stages on a bundle.

    Returns:
        The answer, and the errors of the failed parts by name.

    Raises:
        UnsoundError: No retriever is left, or what is left fails, too.
    """
    try:
        return answer(bundle), {}
    except Exception as error:
        whole = error
    failed = _failed_retrievers(bundle, history)
    if not failed and bundle.ranking is not None:
        failed = {RANKER: whole}
    if not failed or failed.keys() >= bundle.retrievers.keys():
        raise UnsoundError("the model failed as a whole") from whole
    try:
        return answer(without(bundle, failed.keys())), failed
    except Exception as error:
        raise UnsoundError("the model failed, also without what had failed first") from error


def without(bundle: Bundle, failed: Container[str]) -> Bundle:
    """The bundle without these retrievers, and without the ranker, which knows no fewer columns."""
    kept = [place for place, name in enumerate(bundle.retrievers) if name not in failed]
    names = list(bundle.retrievers)
    blend = replace(
        bundle.blend, weights=bundle.blend.weights[kept], floors=bundle.blend.floors[kept]
    )
    return replace(
        bundle,
        retrievers={names[place]: bundle.retrievers[names[place]] for place in kept},
        blend=blend,
        ranking=None,
    )


def _failed_retrievers(bundle: Bundle, history: Iterable[AnyEvent]) -> dict[str, Exception]:
    failed: dict[str, Exception] = {}
    encoded = encode_history(bundle, history)
    some = np.arange(min(len(bundle.item_ids), 2), dtype=np.int32)
    for name, retriever in bundle.retrievers.items():
        try:
            scored = retriever.score(encoded)
            retriever.score_at(scored, some)
            retriever.propose(scored, len(some), None)
        except Exception as error:  # whatever the fault
            failed[name] = error
    return failed
