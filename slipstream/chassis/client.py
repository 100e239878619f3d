"""REST calls to another service, with a deadline, and with retries where a repeat is harmless."""

import json
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx
from pydantic import ValidationError

from slipstream.chassis.logging import TracedId, request_id
from slipstream.chassis.pauses import pause_after
from slipstream.contracts.rest import Problem


class PeerError(Exception):
    """A peer did not answer, or answered with an error.

    The text names the peer and the failure. `detail` is the peer's own message, for people;
    `status` is None when it did not answer.
    """

    def __init__(self, message: str, status: int | None = None, detail: str = "") -> None:
        super().__init__(message)
        self.status, self.detail = status, detail or message


class Bearer(httpx.Auth):
    """The bearer token of each request; a function makes one that does not hold for long."""

    def __init__(self, token: str | Callable[[], str]) -> None:
        self._token = token

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        token = self._token if isinstance(self._token, str) else self._token()
        if token:
            request.headers["Authorization"] = f"Bearer {token}"
        yield request


class Peer:
    """A client for one other service, for several threads.

    A GET is retried after a connection error or an answer of 502 to 504, with pauses that double
    from 0.1 s, but not after a timeout. Other methods are retried only when the connection was
    never made. One that `reconnects` opens a connection for each request.
    """

    def __init__(
        self,
        name: str,
        url: str,
        *,
        timeout_s: float = 5.0,
        retries: int = 2,
        token: str | Callable[[], str] = "",
        transport: httpx.BaseTransport | None = None,
        reconnects: bool = False,
    ) -> None:
        self.name = name
        self._retries = retries
        self._client = httpx.Client(
            base_url=url,
            timeout=timeout_s,
            auth=Bearer(token),
            transport=transport,
            limits=httpx.Limits(
                max_connections=100, max_keepalive_connections=0 if reconnects else 20
            ),
        )

    def close(self) -> None:
        self._client.close()

    def get(self, path: str, **params: Any) -> Any:
        """The JSON body of a GET."""
        return self._request("GET", path, params=params).json()

    def post(self, path: str, body: Any) -> Any:
        """The JSON body of a POST of a JSON body."""
        return self._request("POST", path, json=body).json()

    def put(self, path: str, body: Any, headers: Mapping[str, str] = MappingProxyType({})) -> Any:
        """The JSON body of a PUT of a JSON body."""
        return self._request("PUT", path, headers, json=body).json()

    def delete(self, path: str, headers: Mapping[str, str] = MappingProxyType({})) -> Any:
        """The JSON body of a DELETE."""
        return self._request("DELETE", path, headers).json()

    def lines(self, path: str, body: Any, timeout_s: float) -> Iterator[Any]:
        """The lines of the answer to a POST of a JSON body, each as JSON, as they come.

        `timeout_s` is the longest wait for a line. Raises `PeerError`.
        """
        with self._stream("POST", path, json=body, timeout=timeout_s) as response:
            yield from map(json.loads, response.iter_lines())

    def download(self, path: str, to: Path) -> None:
        """Stream a GET's body into a file, which is complete or absent afterwards."""
        partial = to.with_name(to.name + ".part")
        try:
            with self._stream("GET", path) as response, partial.open("wb") as file:
                for chunk in response.iter_bytes(1 << 20):
                    file.write(chunk)
        except PeerError:
            partial.unlink(missing_ok=True)
            raise
        partial.rename(to)

    @contextmanager
    def _stream(self, method: str, path: str, **arguments: Any) -> Iterator[httpx.Response]:
        """An answer of 200, to be read within the block. Raises `PeerError`."""
        try:
            with self._client.stream(method, path, headers=_of_request(), **arguments) as response:
                if response.status_code != 200:
                    response.read()
                    raise PeerError(
                        f"{self.name} answered {response.status_code} to {method} {path}",
                        response.status_code,
                        detail_of(response),
                    )
                yield response
        except httpx.HTTPError as error:
            raise PeerError(f"{self.name} at {self._client.base_url}: {error!r}") from error

    def _request(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] = MappingProxyType({}),
        **arguments: Any,
    ) -> httpx.Response:
        headers = {**headers, **_of_request()}
        for attempt in range(self._retries + 1):
            last = attempt == self._retries
            try:
                response = self._client.request(method, path, headers=headers, **arguments)
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                if last:
                    raise PeerError(
                        f"{self.name} at {self._client.base_url} can't be reached: {error}"
                    ) from error
            except httpx.HTTPError as error:
                # A peer that has not answered in time still works at it.
                if last or method != "GET" or isinstance(error, httpx.ReadTimeout):
                    raise PeerError(f"{self.name} at {self._client.base_url}: {error!r}") from error
            else:
                if response.status_code < 400:
                    return response
                if last or method != "GET" or response.status_code not in (502, 503, 504):
                    raise PeerError(
                        f"{self.name} answered {response.status_code} to {method} {path}: "
                        f"{detail_of(response) or response.text[:300]}",
                        response.status_code,
                        detail_of(response),
                    )
            time.sleep(pause_after(attempt + 1, 0.1, 10.0))
        raise AssertionError("the last attempt returns or raises")


def _of_request() -> dict[str, str]:
    """The headers by which a call belongs to the request that is being handled."""
    rid, headers = request_id.get(), dict[str, str]()
    # An id that came over Kafka may be any text, a header may not.
    if rid and rid.isascii() and rid.isprintable():
        headers["X-Request-Id"] = rid
    if type(rid) is TracedId:
        headers["traceparent"] = rid.traceparent
    return headers


def detail_of(response: httpx.Response) -> str:
    """The detail of an error body; "" where the body is no `Problem`."""
    try:
        return Problem.model_validate_json(response.content).detail
    except ValidationError:
        return ""
