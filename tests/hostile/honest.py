"""Honest clients: requests at a steady rate, each timed from the moment at which it was due."""

import http.client
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

# Connections of each kind of client, and its requests a second.
CONNECTIONS, RATE = 4, 10.0
TIMEOUT_S = 30.0


class Question(NamedTuple):
    """A request that an honest client sends again and again."""

    port: int
    method: str
    path: str
    body: bytes
    headers: Mapping[str, str]


@dataclass
class Answers:
    """Latencies in ms, from the moment when each was due, and the statuses; 0: no answer."""

    latencies_ms: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)

    def percentile(self, share: float) -> float:
        return float(np.percentile(self.latencies_ms, share)) if self.latencies_ms else 0.0

    @property
    def failed(self) -> int:
        return sum(count for status, count in self.statuses.items() if status != 200)


def ask(questions: Mapping[str, Question], seconds: float) -> dict[str, Answers]:
    """Send each question at `RATE` for `seconds`."""
    answers = {name: Answers() for name in questions}
    threads = [
        threading.Thread(target=_client, args=(questions[name], answers[name], number, seconds))
        for name in questions
        for number in range(CONNECTIONS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def _client(question: Question, answers: Answers, number: int, seconds: float) -> None:
    start = time.perf_counter()
    connection: http.client.HTTPConnection | None = None
    for turn in range(number, int(RATE * seconds), CONNECTIONS):
        due = start + turn / RATE
        time.sleep(max(0.0, due - time.perf_counter()))
        status = 0
        # A kept connection may have been closed meanwhile: once more on a new one, as clients do.
        for _ in range(2):
            if connection is None:
                connection = http.client.HTTPConnection(
                    "127.0.0.1", question.port, timeout=TIMEOUT_S
                )
            try:
                status = _exchange(connection, question, f"{number}-{turn}")
                break
            except (OSError, http.client.HTTPException):
                connection.close()
                connection = None
        answers.latencies_ms.append((time.perf_counter() - due) * 1000)
        answers.statuses[status] += 1


def _exchange(connection: http.client.HTTPConnection, question: Question, name: str) -> int:
    mark = name.encode()
    connection.request(
        question.method,
        question.path,
        question.body.replace(b"NAME", mark),
        dict(question.headers),
    )
    response = connection.getresponse()
    response.read()
    return response.status
