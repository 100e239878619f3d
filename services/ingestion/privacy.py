"""Removal of personal data: fields that the settings name, IP addresses, and write keys.

Applied to properties and traits before they are published, and to the original of a message before
it becomes a dead letter. Segment's specification has the address as `context.ip`. Clients copy it
into properties and traits, alone or with the context around it, so `ip` is looked for at any depth.
"""

import hashlib
import hmac
import ipaddress
import re
from collections.abc import Iterable
from typing import Any, Final

import orjson

WRITE_KEY = "writeKey"
IP = "ip"
_IPV4_WITHIN = re.compile(r"(\d{1,3}\.\d{1,3}\.\d{1,3})\.\d{1,3}")


class Privacy:
    """A policy that drops, hashes and shortens fields.

    A hash is HMAC-SHA-256 in hex: equal values have equal hashes, and trying out values needs the
    key.
    """

    def __init__(
        self,
        *,
        drop: Iterable[str] = (),
        hashed: Iterable[str] = (),
        key: str = "",
        truncate_ip: bool = True,
    ) -> None:
        """Raises ValueError for a malformed name, or for `hashed` fields without a key.

        Args:
            drop: Names, which match at any depth, or dotted paths (`address.street`), which match
                wherever the keys follow one another. Lists on the way are searched, too.
            hashed: Names or dotted paths, as above, of fields to replace by their hashes.
            truncate_ip: Shorten IP addresses in fields called `ip`.
        """
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
        # Whether there are fields to hash. A hash may be longer than its value.
        self.hashes: Final = any(by_hash for rules in self._rules.values() for _, by_hash in rules)
        self._key = key.encode()
        self._truncate_ip = truncate_ip
        self._always = frozenset({WRITE_KEY, IP} if truncate_ip else {WRITE_KEY})

    def published(self, fields: dict[str, Any]) -> dict[str, Any]:
        """Properties or traits as they may be published; the same object if nothing changes.

        Their nesting must have been checked before.
        """
        if self._rules or _has_key(fields, self._always):
            cleaned: dict[str, Any] = self._cleaned(fields)
            return cleaned
        return fields

    def original(self, message: Any, kind: str | None = None) -> Any:
        """A rejected message as a dead letter may keep it.

        `kind` is the call that it came by. It is written into the message as its `type`, so that
        the message can be sent again in a batch.
        """
        kept = self._cleaned(message)
        if kind is not None and type(kept) is dict:
            kept["type"] = kind
        return kept

    def _cleaned(self, value: Any) -> Any:
        """A copy without personal data and write keys.

        No recursion, since a message may be nested deeper than Python's stack allows.
        """
        root: list[Any] = [None]
        todo: list[tuple[Any, Any, Any, tuple[str, ...]]] = [(value, root, 0, ())]
        while todo:
            original, parent, place, path = todo.pop()
            kind = type(original)
            if kind is dict:
                copy = parent[place] = {}
                for name, inner in original.items():
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
                        if inner and type(inner) in (dict, list):
                            todo.append((inner, copy, name, inside))
            elif kind is list:
                # Proxies on the way add their addresses, which some clients send as a list.
                addresses = self._truncate_ip and path[-1:] == (IP,)
                parent[place] = [
                    truncated(inner) if addresses and type(inner) is str else inner
                    for inner in original
                ]
                todo.extend(
                    (inner, parent[place], at, path)
                    for at, inner in enumerate(original)
                    if inner and type(inner) in (dict, list)
                )
            else:
                parent[place] = original
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
            return [None if inner is None else self._digest(inner) for inner in value]
        return self._digest(value)

    def _digest(self, value: Any) -> str:
        text = value.encode() if type(value) is str else _json(value)
        return hmac.new(self._key, text, hashlib.sha256).hexdigest()


def without_write_keys(attributes: dict[str, Any]) -> dict[str, Any]:
    """Attributes of an item, without write keys; the same object if it has none.

    Their nesting must have been checked before.
    """
    return _NO_RULES.published(attributes)


def truncated(address: str) -> str:
    """An IP address with zeros for the last octet (IPv4) or 80 bits (IPv6), which name a household.

    In text that is no address, IPv4 addresses within it are shortened.
    """
    try:
        ip = ipaddress.ip_address(address.strip().partition("%")[0].strip("[]"))
    except ValueError:
        return (
            ", ".join(truncated(part) for part in address.split(","))
            if "," in address
            else _IPV4_WITHIN.sub(r"\1.0", address)
        )
    if isinstance(ip, ipaddress.IPv4Address):
        return str(ipaddress.IPv4Address(int(ip) & ~0xFF))
    if ip.ipv4_mapped is not None:
        return f"::ffff:{truncated(str(ip.ipv4_mapped))}"
    return str(ipaddress.IPv6Address(int(ip) >> 80 << 80))


def _has_key(value: Any, names: frozenset[str]) -> bool:
    """Whether an object at any depth has one of these keys."""
    if type(value) is dict:
        if not names.isdisjoint(value):
            return True
        value = value.values()
    # Written out, since it runs for every event: a generator costs as much again.
    for inner in value:
        kind = type(inner)
        if (kind is dict or kind is list) and _has_key(inner, names):
            return True
    return False


def _json(value: Any) -> bytes:
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError:  # nested too deeply for it
        return repr(value).encode(errors="replace")


_NO_RULES = Privacy(truncate_ip=False)
