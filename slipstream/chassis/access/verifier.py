"""Verification of credentials, without a question to another service.

An address that showed five wrong credentials within a minute gets 429 for the next ones, in place
of 401. Each process keeps its own count, in memory. Only wrong credentials are counted and refused
so: a right one passes, whatever else came from its address.
"""

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from ipaddress import ip_address
from typing import Final

from slipstream.chassis.access.keys import KeyRing, KnownKey, digest_of
from slipstream.chassis.access.tokens import TokenVerifier
from slipstream.chassis.addresses import network_of
from slipstream.chassis.errors import (
    ServiceError,
    TooManyRequestsError,
    UnauthorizedError,
    UnavailableError,
)
from slipstream.chassis.settings import ServiceSettings
from slipstream.contracts.access import INGESTION_SCOPES, Principal, Scope

# Wrong credentials of an address within the period that are answered by 401.
MOST_WRONG: Final = 5
_PERIOD_S: Final = 60.0
# Addresses that are remembered, some 3 MB. Of more, the one that was wrong longest ago goes.
MOST_ADDRESSES: Final = 10_000


class WrongCredentialsError(TooManyRequestsError):
    code, title = "wrong_credentials", "Too many wrong credentials came from this address"


class WrongCredentials:
    """Times of the last wrong credentials, by address. `clock` tells the time in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._times: OrderedDict[str, list[float]] = OrderedDict()

    def refusal(
        self, address: str, otherwise: UnauthorizedError
    ) -> UnauthorizedError | WrongCredentialsError:
        """The error for a wrong credential from this address: `otherwise`, or 429 from the sixth in
        a minute on. Those that are answered by 429 do not count.
        """
        network, now = network_of(address), self._clock()
        recent = [at for at in self._times.get(network, ()) if at > now - _PERIOD_S]
        if len(recent) == MOST_WRONG:
            return WrongCredentialsError(
                f"{otherwise.detail}. After {MOST_WRONG} wrong ones within a minute, only a right "
                "one is answered otherwise",
                retry_after_s=max(1, math.ceil(recent[0] + _PERIOD_S - now)),
                limit=MOST_WRONG,
            )
        self._times[network] = [*recent, now]
        self._times.move_to_end(network)
        if len(self._times) > MOST_ADDRESSES:
            self._times.popitem(last=False)
        return otherwise


SERVICE_SCOPES: Final = frozenset(Scope) - INGESTION_SCOPES - {Scope.SERVICE}
# The caller of a service that asks for no credentials.
ANYBODY: Final = Principal("anybody", SERVICE_SCOPES, browser=False)
# Characters of an API token that other machines may try.
LEAST_TOKEN: Final = 32
_API_TOKEN: Final = "api-token"  # noqa: S105
# What a session's mark is of.
_KEY, _TOKEN = "key:", "token:"


class ExposedError(ValueError):
    """A service would answer other machines, and asks for no credentials, or for guessable ones."""


class Verifier:
    """Finds out who holds a credential: keys by their digest, tokens by their signature.

    With `required` false, the service asks for no credentials, and a request without any is
    `ANYBODY`'s.
    """

    def __init__(self, ring: KeyRing, settings: ServiceSettings) -> None:
        """With the keys, and the settings that say how tokens are verified.

        Raises `TokenKeysError` where a file of public keys can't be read.
        """
        self._ring, self.required = ring, asks_for_credentials(settings)
        self._tokens = TokenVerifier(settings.access) if _takes_tokens(settings) else None
        self._wrong = WrongCredentials()

    def find(self, credential: str) -> KnownKey | None:
        """The key or token; None where it is wrong or has ended."""
        try:
            known = self._ring.find(credential)
        except UnicodeEncodeError:  # JSON may hold half of a surrogate pair
            return None
        if known is None and self._tokens is not None and credential.count(".") == 2:
            known = self._tokens.find(credential)
        return known

    def mark_of(self, credential: str) -> str:
        """What a session keeps of a credential that was found, so that it ends with it: the digest
        of a key, or the mark of what a token is verified by.
        """
        digest = digest_of(credential)
        if self._ring.by_digest(digest) is not None or self._tokens is None:
            return f"{_KEY}{digest}"
        return f"{_TOKEN}{self._tokens.mark_of(credential)}"

    def holder(self, mark: str, kept: KnownKey) -> KnownKey | None:
        """The holder of a session with this mark: its key as it is now, or `kept`, which is that of
        a token; None once the key counts no more, or verifies no tokens.
        """
        if mark.startswith(_KEY):
            return self._ring.by_digest(mark.removeprefix(_KEY))
        of_token = mark.removeprefix(_TOKEN)
        return kept if self._tokens is not None and self._tokens.takes(of_token) else None

    def refusal(self, address: str, otherwise: UnauthorizedError) -> ServiceError:
        """The error for a credential from this address that was not found.

        It is `otherwise`, or 429 after many wrong ones; or 503 while keys are being read. Clients
        drop what a 401 answers, and send again what a 503 does.
        """
        return self.not_yet() or self._wrong.refusal(address, otherwise)

    def not_yet(self) -> UnavailableError | None:
        """The error of a credential that is not found while keys are being read; else None."""
        if not self._ring.loading:
            return None
        return UnavailableError("The access keys are still being read", code="keys_loading")


def api_token_key(settings: ServiceSettings) -> dict[str, KnownKey]:
    """The API token of the settings as a key, by its digest; empty where there is none."""
    token = settings.http.api_token.get_secret_value()
    return (
        {digest_of(token): KnownKey(Principal(_API_TOKEN, SERVICE_SCOPES, browser=False))}
        if token
        else {}
    )


def asks_for_credentials(settings: ServiceSettings) -> bool:
    """Whether the settings hold something that credentials can be verified by."""
    return bool(settings.http.api_token.get_secret_value()) or _takes_tokens(settings)


def refuse_exposure(settings: ServiceSettings) -> None:
    """Raise `ExposedError` for settings with which every machine may do anything.

    The shared secret of tokens is long enough wherever a service listens.
    """
    http = settings.http
    if _is_loopback(http.host) or http.open_without_credentials:
        return
    answers = f"SLIPSTREAM_HTTP__HOST={http.host} answers other machines, and "
    otherwise = (
        "or SLIPSTREAM_HTTP__OPEN_WITHOUT_CREDENTIALS=true where no stranger reaches the port"
    )
    if not asks_for_credentials(settings):
        raise ExposedError(
            f"{answers}nothing asks them for credentials: set SLIPSTREAM_HTTP__API_TOKEN, "
            f"{otherwise}"
        )
    if 0 < len(http.api_token.get_secret_value()) < LEAST_TOKEN:
        raise ExposedError(
            f"{answers}SLIPSTREAM_HTTP__API_TOKEN has fewer than {LEAST_TOKEN} characters, which "
            f"can be guessed: set one of 'openssl rand -hex 24', {otherwise}"
        )


def _takes_tokens(settings: ServiceSettings) -> bool:
    return bool(settings.access.token_secret.get_secret_value() or settings.access.token_keys)


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
