import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from slipstream.chassis.client import Peer, PeerError
from slipstream.chassis.logging import TracedId, carrying


def a_peer(handler: httpx.MockTransport, retries: int = 2) -> Peer:
    return Peer("training", "http://training", retries=retries, transport=handler)


def test_get_is_retried_after_a_503() -> None:
    answers = iter([httpx.Response(503), httpx.Response(200, json={"ok": True})])
    assert a_peer(httpx.MockTransport(lambda request: next(answers))).get("/v1/x") == {"ok": True}


def test_get_is_not_retried_after_a_timeout() -> None:
    asked = []

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        raise httpx.ReadTimeout("timed out", request=request)

    with pytest.raises(PeerError, match="ReadTimeout"):
        a_peer(httpx.MockTransport(handler)).get("/v1/x")
    assert len(asked) == 1


def test_post_is_not_retried_after_a_503() -> None:
    calls: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        calls.append(request)
        return httpx.Response(503, text="busy")

    with pytest.raises(PeerError, match="training answered 503 to POST /v1/runs: busy"):
        a_peer(httpx.MockTransport(handler)).post("/v1/runs", {})
    assert len(calls) == 1


def test_put_and_delete_send_their_headers_and_are_not_retried_after_a_503() -> None:
    calls: list[tuple[str, str, bytes]] = []

    def handler(request: httpx.Request) -> httpx.Response:
        calls.append((request.method, request.headers["If-Match"], request.content))
        return httpx.Response(503 if len(calls) == 1 else 200, json={})

    peer = a_peer(httpx.MockTransport(handler))
    with pytest.raises(PeerError, match="training answered 503 to PUT /v1/x"):
        peer.put("/v1/x", {}, {"If-Match": '"1"'})
    assert peer.delete("/v1/x", {"If-Match": '"2"'}) == {}
    assert calls == [("PUT", '"1"', b"{}"), ("DELETE", '"2"', b"")]


def test_every_call_says_which_request_and_trace_it_belongs_to(tmp_path: Path) -> None:
    calls: list[tuple[str | None, str | None]] = []

    def handler(request: httpx.Request) -> httpx.Response:
        headers = request.headers
        calls.append((headers.get("X-Request-Id"), headers.get("traceparent")))
        return httpx.Response(200, json={})

    peer, place = a_peer(httpx.MockTransport(handler)), f"00-{'a' * 32}-{'b' * 16}-01"
    for rid in ("", "r-1", TracedId("r-1", place), TracedId("é", place)):
        with carrying(rid):
            peer.put("/v1/x", {}, {"If-Match": "1"})
            peer.download("/v1/x", tmp_path / "x")
    expected = [(None, None), ("r-1", None), ("r-1", place), (None, place)]
    assert calls == [each for each in expected for _ in range(2)]


def test_peer_away_is_named_in_the_error() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    with pytest.raises(PeerError, match=r"training at http://training/? can't be reached: refused"):
        a_peer(httpx.MockTransport(handler), retries=0).get("/v1/x")


def test_error_keeps_its_status() -> None:
    with pytest.raises(PeerError) as caught:
        a_peer(httpx.MockTransport(lambda request: httpx.Response(404))).get("/v1/aliases/champion")
    assert caught.value.status == 404


def test_error_tells_what_the_peer_says_of_it() -> None:
    problem = {
        "title": "No",
        "status": 409,
        "detail": "run r1 is succeeded already",
        "code": "run_ended",
    }
    with pytest.raises(PeerError) as caught:
        a_peer(httpx.MockTransport(lambda request: httpx.Response(409, json=problem))).post(
            "/v1/runs/r1:cancel", {}
        )
    assert caught.value.detail == "run r1 is succeeded already"


def test_download_leaves_no_file_when_it_fails(tmp_path: Path) -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        raise httpx.ReadError("cut off")

    with pytest.raises(PeerError):
        a_peer(httpx.MockTransport(handler)).download("/file", tmp_path / "model.npy")
    assert list(tmp_path.iterdir()) == []


def test_download_writes_the_body(tmp_path: Path) -> None:
    a_peer(httpx.MockTransport(lambda request: httpx.Response(200, content=b"12345"))).download(
        "/file", tmp_path / "model.npy"
    )
    assert (tmp_path / "model.npy").read_bytes() == b"12345"


@pytest.mark.parametrize(("reconnects", "connections"), [(False, 1), (True, 3)])
def test_one_that_reconnects_opens_a_connection_for_each_request(
    reconnects: bool, connections: int
) -> None:
    seen = set()

    class Empty(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            seen.add(self.client_address)
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Empty) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        peer = Peer("serving", url, reconnects=reconnects)
        assert [peer.get("/v1/model") for _ in range(3)] == [{}] * 3
        peer.close()
        server.shutdown()
    assert len(seen) == connections
