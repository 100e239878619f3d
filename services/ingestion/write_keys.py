"""Write keys in settings. A key's name becomes its events' source."""

from typing import Final

from slipstream.chassis.access.keys import KnownKey, digest_of
from slipstream.chassis.access.page_tokens import public_key_of
from slipstream.chassis.settings import listed
from slipstream.contracts.access import BROWSER_SCOPES, INGESTION_SCOPES, Principal

WRITE_KEYS: Final = "SLIPSTREAM_INGESTION__WRITE_KEYS"
BROWSER_KEYS: Final = "SLIPSTREAM_INGESTION__BROWSER_KEYS"


def configured_keys(servers: str, browsers: str, pages: str) -> dict[str, KnownKey]:
    """Read the keys of the settings; returns them by digest.

    Keys of servers have all of ingestion's scopes, keys of browsers those that a page may have.
    Each has the form `name:key,name2:key2`. A key may hold a colon, but no comma.

    Args:
        servers: Keys of servers.
        browsers: Keys that web pages show to everyone.
        pages: Origins that browsers' keys are taken from; with `*` among them, from anywhere.

    Raises:
        ValueError: There is no key of a server, or a name or key is empty or given twice.
    """
    origins = frozenset(listed(pages))
    if "*" in origins:
        origins = frozenset()
    keys: dict[str, KnownKey] = {}
    names: set[str] = set()
    for variable, entries, scopes, of_browser in (
        (WRITE_KEYS, servers, INGESTION_SCOPES, False),
        (BROWSER_KEYS, browsers, BROWSER_SCOPES, True),
    ):
        for entry in listed(entries):
            name, _, key = entry.partition(":")
            if not name or not key:
                raise ValueError(f"{variable}: each entry is name:key, several separated by commas")
            digest = digest_of(key)
            if name in names or digest in keys:
                raise ValueError(f"{variable}: {name}: a name and a key may each appear once")
            names.add(name)
            keys[digest] = KnownKey(
                Principal(name, scopes, of_browser),
                origins if of_browser else frozenset(),
                page_key="" if of_browser else public_key_of(key),
            )
        if not keys:
            raise ValueError(f"{WRITE_KEYS} is not set: give at least one name:key")
    return keys
