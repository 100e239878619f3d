"""Access keys in memory: the digest of each key that counts, and the principal who holds it.

Keys are long and random, so a fast hash is as good as a slow one. The time that a look-up takes
depends on the digest alone, which gives no key away.
"""

import hashlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from slipstream.contracts.access import AccessKey, Principal, Scope
from slipstream.contracts.times import now_ms

# Characters of a digest that name its key.
KEY_ID_LENGTH: Final = 12


class KnownKey(NamedTuple):
    """A key's holder, the web origins that it is taken from (none: from anywhere), and its end.

    `page_key` is the public key that verifies its tokens for pages, empty for none.
    """

    principal: Principal
    origins: frozenset[str] = frozenset()
    ends_at: int | None = None
    page_key: str = ""


def digest_of(key: str) -> str:
    """The digest of a key: its SHA-256 in hex."""
    return hashlib.sha256(key.encode()).hexdigest()


class KeyRing:
    """The keys that a service takes: those of its settings, and those of `access-keys.v1`.

    Looked up in an event loop, and changed by the thread that follows the topic. `loading` means
    that this thread has not read the topic to its end yet.
    """

    def __init__(self, configured: Mapping[str, KnownKey] = MappingProxyType({})) -> None:
        """With the configured keys by digest. No record changes or ends them."""
        self._configured = dict(configured)
        self._followed: dict[str, KnownKey] = {}
        # Those that verify tokens of pages, by the beginning of their digests.
        self._page_keys = {
            digest[:KEY_ID_LENGTH]: digest for digest, key in configured.items() if key.page_key
        }
        self._uses: dict[str, int] = {}
        self.loading = False

    def find(self, key: str) -> KnownKey | None:
        """The key if it counts now."""
        return self.by_digest(digest_of(key))

    def page_key(self, key_id: str) -> KnownKey | None:
        """The key that verifies tokens which name it by the beginning of its digest."""
        digest = self._page_keys.get(key_id)
        return self.by_digest(digest) if digest else None

    def by_digest(self, digest: str) -> KnownKey | None:
        """The key with this digest, if it counts now."""
        known = self._configured.get(digest)
        if known is not None:
            return known
        known, now = self._followed.get(digest), now_ms()
        if known is None or (known.ends_at is not None and known.ends_at <= now):
            return None
        self._uses[digest] = now
        return known

    def take_uses(self) -> dict[str, int]:
        """When each followed key was found last (ms), of those found since the last call."""
        uses, self._uses = self._uses, {}
        # A copy, since a look-up that began before may still write into the old one.
        return dict(uses)

    def take(self, record: AccessKey) -> None:
        """Take a key's newest state. Scopes that this version does not know grant nothing."""
        ends = [at for at in (record.expires_at, record.revoked_at) if at is not None]
        scopes = frozenset(scope for scope in Scope if scope.value in record.scopes)
        self._followed[record.digest] = KnownKey(
            Principal(record.name, scopes, record.browser),
            frozenset(record.origins),
            min(ends, default=None),
            record.page_key,
        )
        if record.page_key:
            self._page_keys[record.digest[:KEY_ID_LENGTH]] = record.digest
