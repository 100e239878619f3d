"""Part 7: two replicas of serving with different models while a model is promoted; every answer
names the version that gave it.
"""

import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import pairwise

from tests.cluster.bed import Bed
from tests.cluster.kubectl import wait_until
from tests.cluster.load import pods
from tests.cluster.load.pods import Answer
from tests.cluster.parts.scaling import replicas
from tests.cluster.parts.start import train
from tests.cluster.parts.updates import judge
from tests.cluster.report import Part

TITLE = "7 Two replicas with different models during a promotion"
QUESTIONS_PER_S, VISITORS = 150.0, 40
PROMOTIONS = 4
# Share of answers without a model, which name no version: on a busy node a read takes 100 ms.
MOST_LATE = 0.01
# Between two promotions each model answers each visitor several times.
PAUSE_S = 5.0


def run(bed: Bed, part: Part) -> None:
    first = bed.champion()
    second = train(bed, part, "the second model")
    if bed.champion() != first:
        _promote(bed, first)
    replicas(bed, "deployment/serving", 2)
    with pods.questions(
        bed.kubectl, bed.tag, "p", rate=QUESTIONS_PER_S, visitors=VISITORS
    ) as questions:
        time.sleep(PAUSE_S)
        for turn in range(PROMOTIONS):
            _promote(bed, (second, first)[turn % 2])
            time.sleep(PAUSE_S)
        answers = questions.result()
    replicas(bed, "deployment/serving", 1)
    judge(part, answers)
    judge_versions(part, answers, (first, second))


def _promote(bed: Bed, version: str) -> None:
    bed.services.post("training", f"/v1/models/{version}:promote", {"reason": "cluster demo"})
    wait_until(lambda: bed.champion() == version, f"version {version} to be champion", 60.0)


def judge_versions(part: Part, answers: Sequence[Answer], versions: tuple[str, str]) -> None:
    """Each answer must be the list that the model it names gives to that visitor. Which that is,
    the calm between the promotions tells: the list that the version gave most often.
    """
    answered = [a for a in answers if a.status == 200]
    good = sorted((a for a in answered if a.version is not None), key=lambda a: a.at_ms)
    lists: dict[tuple[str, str | None], Counter[tuple[str, ...]]] = defaultdict(Counter)
    for answer in good:
        lists[answer.visitor, answer.version][answer.items] += 1
    usual = {key: counted.most_common(1)[0][0] for key, counted in lists.items()}
    telling = {
        visitor
        for visitor, _ in usual
        if len({usual.get((visitor, version)) for version in versions} - {None}) == 2
    }
    strange = [a for a in good if a.version not in versions]
    wrong = [a for a in good if a.visitor in telling and a.items != usual[a.visitor, a.version]]
    other = {versions[0]: versions[1], versions[1]: versions[0]}
    swapped = [
        a for a in wrong if a.version in other and a.items == usual[a.visitor, other[a.version]]
    ]
    mixed = sum(len(span) for span in mixed_spans(good))
    late = len(answered) - len(good)
    counted = Counter(str(a.version) for a in good)
    part.tell("answers by version", ", ".join(f"{v}: {n:,}" for v, n in sorted(counted.items())))
    part.tell("promotions", f"{PROMOTIONS}, of versions {versions[1]} and {versions[0]} in turn")
    part.tell("answers while both were in service", f"{mixed:,}")
    part.tell("visitors with different lists", f"{len(telling)} of {VISITORS}")
    part.tell(
        "lists other than the named model's", f"{len(wrong)}, the other model's: {len(swapped)}"
    )
    part.tell("trending items, as the store was late", f"{late:,} of {len(answered):,}")
    part.demand(late <= MOST_LATE * len(answered), f"trending items answered {late} requests")
    part.demand(not strange, f"answers that name neither version: {len(strange)}")
    part.demand(not wrong, f"{len(wrong)} answers are not the list of the model that they name")
    part.demand(len(telling) > 0, "both models give all visitors the same list: nothing is shown")
    part.demand(mixed > 0, "the replicas never had different models while requests came")


def mixed_spans(answers: Sequence[Answer]) -> list[list[Answer]]:
    """Stretches of answers, in order of time, in which the version changes to and fro: from the
    first of the new one to the last of the old one before the next promotion.
    """
    changes = [index for index, (a, b) in enumerate(pairwise(answers), 1) if a.version != b.version]
    spans: list[list[int]] = []
    for index in changes:
        if spans and answers[index].at_ms - answers[spans[-1][-1]].at_ms < 1_000 * PAUSE_S / 2:
            spans[-1].append(index)
        else:
            spans.append([index])
    # A single change is a clean one.
    return [list(answers[span[0] : span[-1]]) for span in spans if len(span) > 1]
