"""The HTTP server of a service, and its stop: it drains, answers what is under way, and closes."""

import asyncio
import gc
import socket
import sys
from collections.abc import Callable, Collection
from typing import Final

import uvicorn
from fastapi import FastAPI

from slipstream.chassis.connections import ConnectionPool
from slipstream.chassis.ending import Ending
from slipstream.chassis.hot_routes import HotConnection
from slipstream.chassis.settings import ServiceSettings
from slipstream.contracts.services import SERVICES

# Connections that may wait to be accepted.
BACKLOG = 2048
# Time between looks at the connections that a stop waits for.
_LOOK_S: Final = 0.05
# Time for which a thread keeps the interpreter while another waits for it. Python's own 5 ms are
# as long as a call of serving's kernels; and a thread that asks a broker or a store waits for them
# again after each answer, which beside three busy threads turns .1 s into 1.2.
_SWITCH_S: Final = 0.001


class DrainingServer(uvicorn.Server):
    """A server that first has its clients leave by themselves when it stops.

    uvicorn closes idle connections at once. A client that sends a request at that moment sees its
    connection break. So for `drain_s` seconds, and as long as there are connections, each answer
    says `Connection: close` first.

    Args:
        drain_s: Seconds; 0 for no such time.
        on_stop: Called first, in the event loop, to end answers that have no end of their own.
    """

    def __init__(
        self, config: uvicorn.Config, drain_s: float, on_stop: Collection[Callable[[], None]] = ()
    ) -> None:
        super().__init__(config)
        self._drain_s, self._on_stop = drain_s, on_stop

    async def main_loop(self) -> None:
        """Serve until the stop, and drain."""
        await super().main_loop()
        state, loop = self.server_state, asyncio.get_running_loop()
        state.default_headers = [*state.default_headers, (b"connection", b"close")]
        for end in self._on_stop:
            end()
        deadline = loop.time() + self._drain_s
        # uvicorn tells nobody of a connection's end.
        while state.connections and loop.time() < deadline and not self.force_exit:  # noqa: ASYNC110
            await asyncio.sleep(_LOOK_S)


def server_config(app: FastAPI, settings: ServiceSettings, name: str) -> uvicorn.Config:
    """Configuration of the HTTP server, with the limits of its connections."""
    pool = ConnectionPool(settings.http, getattr(app.state, "metrics", None))
    hot = getattr(app.state, "hot_routes", None)
    return uvicorn.Config(
        app,
        http=pool.protocol(HotConnection, hot=hot) if hot else pool.protocol(),
        ws="none",
        host=settings.http.host,
        port=settings.http.port or SERVICES[name].port,
        log_config=None,
        access_log=False,
        server_header=False,
        forwarded_allow_ips=settings.http.trusted_proxies,
        timeout_graceful_shutdown=settings.http.shutdown_grace_s,
        backlog=BACKLOG,
    )


def serve(
    app: FastAPI,
    settings: ServiceSettings,
    name: str,
    sockets: list[socket.socket] | None = None,
) -> None:
    """Run the app until SIGTERM or SIGINT, then answer requests under way, close and return.

    Where the service itself asked for its end, the process ends with status 1. Without sockets it
    opens one as the settings say.
    """
    # Objects that exist by now stay for good. The garbage collector would look through all of them
    # after every few requests.
    gc.collect()
    gc.freeze()
    gc.set_threshold(getattr(app.state, "collect_after", 10_000), 20, 50)
    sys.setswitchinterval(_SWITCH_S)
    server = DrainingServer(
        server_config(app, settings, name),
        settings.http.drain_s,
        getattr(app.state, "on_stop", ()),
    )
    ending: Ending = getattr(app.state, "ending", None) or Ending()
    ending.calls(lambda: setattr(server, "should_exit", True))
    server.run(sockets)
    if ending.reason:
        raise SystemExit(1)
