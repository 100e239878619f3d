"""What is not kept: write keys and whole IP addresses ever, and the personal fields that the
settings name.

Applied to properties and traits before they are published, and to the original of a message before
it becomes a dead letter.
"""

import hashlib
import hmac
import ipaddress
import re
from collections.abc import Iterable
from typing import Any

import orjson

WRITE_KEY = "writeKey"
IP = "ip"
_IPV4_WITHIN = re.compile(r"(\d{1,3}\.\d{1,3}\.\d{1,3})\.\d{1,3}")


class Privacy:
    """Drops, hashes and shortens fields.

    `drop` and `hashed` hold names, which are found at any depth, or dotted paths
    (`address.street`), which are found wherever the keys follow one another; lists on the way are
    looked through. A hash is HMAC-SHA-256 under `key`, in hex: equal values have equal hashes, and
    nobody without the key can try out values. Raises ValueError when something is to be hashed
    without a key.
    """

    def __init__(
        self,
        *,
        drop: Iterable[str] = (),
        hashed: Iterable[str] = (),
        key: str = "",
        truncate_ip: bool = True,
    ) -> None:
        self._rules: dict[str, list[tuple[tuple[str, ...], bool]]] = {}
        for names, by_hash in ((drop, False), (hashed, True)):
            for name in names:
                path = tuple(name.split("."))
                if not all(path):
                    raise ValueError(f"{name!r} is no name or dotted path of a field")
                if by_hash and not key:
                    raise ValueError(
                        "fields are to be hashed, but there is no key to hash them with"
                    )
                self._rules.setdefault(path[-1], []).append((path, by_hash))
        self._key = key.encode()
        self._truncate_ip = truncate_ip

    def published(self, fields: dict[str, Any]) -> dict[str, Any]:
        """Properties or traits as they may be published; the same object when there is nothing to
        change.
        """
        if self._rules:
            cleaned: dict[str, Any] = self._cleaned(fields)
            return cleaned
        if self._truncate_ip and type(fields.get(IP)) is str:
            return {**fields, IP: truncated(fields[IP])}
        return fields

    def original(self, message: Any, kind: str | None = None) -> Any:
        """A message as it may be kept, with the call that it came by as its `type`, so that it can
        be sent again in a batch.
        """
        kept = self._cleaned(message)
        if kind is not None and type(kept) is dict:
            kept["type"] = kind
        return kept

    def _cleaned(self, value: Any) -> Any:
        """A copy without what may not be kept. No recursion: a message may be nested deeper than
        Python's stack goes.
        """
        root: list[Any] = [None]
        todo: list[tuple[Any, Any, Any, tuple[str, ...]]] = [(value, root, 0, ())]
        while todo:
            found, parent, place, path = todo.pop()
            kind = type(found)
            if kind is dict:
                copy = parent[place] = {}
                for name, inner in found.items():
                    inside = (*path, name)
                    rule = self._rule(name, inside)
                    if name == WRITE_KEY or rule is False:
                        continue
                    if rule:
                        copy[name] = self._hash(inner)
                    elif name == IP and self._truncate_ip and type(inner) is str:
                        copy[name] = truncated(inner)
                    else:
                        copy[name] = inner
                        if type(inner) in (dict, list):
                            todo.append((inner, copy, name, inside))
            elif kind is list:
                parent[place] = list(found)
                todo.extend(
                    (inner, parent[place], at, path)
                    for at, inner in enumerate(found)
                    if type(inner) in (dict, list)
                )
            else:
                parent[place] = found
        return root[0]

    def _rule(self, name: str, path: tuple[str, ...]) -> bool | None:
        """True to hash the field at `path`, False to drop it, None to leave it."""
        for wanted, by_hash in self._rules.get(name, ()):
            if path[-len(wanted) :] == wanted:
                return by_hash
        return None

    def _hash(self, value: Any) -> Any:
        if value is None:
            return None
        if type(value) is list:
            return [None if one is None else self._digest(one) for one in value]
        return self._digest(value)

    def _digest(self, value: Any) -> str:
        text = value.encode() if type(value) is str else _json(value)
        return hmac.new(self._key, text, hashlib.sha256).hexdigest()


def truncated(address: str) -> str:
    """An IP address without the part that names a household: the last octet of IPv4, the last 80
    bits of IPv6, are 0. Of text that is no address, IPv4 addresses within are shortened.
    """
    try:
        ip = ipaddress.ip_address(address.strip().partition("%")[0].strip("[]"))
    except ValueError:
        return (
            ", ".join(truncated(one) for one in address.split(","))
            if "," in address
            else _IPV4_WITHIN.sub(r"\1.0", address)
        )
    if isinstance(ip, ipaddress.IPv4Address):
        return str(ipaddress.IPv4Address(int(ip) & ~0xFF))
    if ip.ipv4_mapped is not None:
        return f"::ffff:{truncated(str(ip.ipv4_mapped))}"
    return str(ipaddress.IPv6Address(int(ip) >> 80 << 80))


def _json(value: Any) -> bytes:
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError:  # nested too deeply for it
        return repr(value).encode(errors="replace")
