"""Hosts and origins that a service takes requests from.

A page elsewhere may send requests to a service that its visitor reaches. Browsers name the page in
`Origin`, and a name that was pointed at this machine (DNS rebinding) stands in `Host`.
"""

import ipaddress
from collections.abc import Collection
from functools import lru_cache
from urllib.parse import urlsplit

from slipstream.chassis.errors import ForbiddenError

# Methods that change nothing.
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


class KnownHosts:
    """Names under which a service is reached.

    Addresses, `localhost` and names without dots are taken: no stranger can point those at this
    machine. Others are listed in the settings; `*` there takes any.
    """

    def __init__(self, names: Collection[str]) -> None:
        self._names = frozenset(name.lower() for name in names)
        self._knows = lru_cache(256)(self._look_up)

    def check(self, host: bytes | None, origin: bytes | None) -> ForbiddenError | None:
        """The error of a request with these headers; None where it may go on."""
        if host is not None and not self._knows(host.decode("latin-1")):
            return ForbiddenError(
                f"The service is not known as {host.decode('latin-1')!r}: list the name in "
                "SLIPSTREAM_HTTP__HOSTS on the server",
                code="foreign_host",
            )
        if origin is None:
            return None
        page = origin.decode("latin-1").partition("://")[2]
        own = host is not None and page == host.decode("latin-1")
        if own or (page and self._listed(_hostname(page))):
            return None
        return ForbiddenError(
            "Pages of other origins may not send this request; SLIPSTREAM_HTTP__HOSTS on the "
            "server lists those that may",
            code="foreign_origin",
        )

    def _listed(self, name: str) -> bool:
        return "*" in self._names or name in self._names

    def _look_up(self, host: str) -> bool:
        name = _hostname(host)
        if "." not in name and ":" not in name:
            return bool(name)
        return self._listed(name) or name.endswith(".localhost") or is_address(name)


def is_address(name: str) -> bool:
    """Whether this is an IP address rather than a name."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _hostname(netloc: str) -> str:
    """The host in `host:port`, in lower case and without the brackets of IPv6; "" for nonsense."""
    try:
        return urlsplit(f"//{netloc}").hostname or ""
    except ValueError:
        return ""
