"""Channels to people: the addresses of the setting `notify_urls`, as apprise reads them.

Source: https://github.com/caronc/apprise/wiki. Apprise is imported only where there is an address.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from slipstream.contracts.spellings import did_you_mean

if TYPE_CHECKING:
    from apprise import AppriseAsset, NotifyBase

# Most characters of a failure's reason that are kept.
_LONGEST_REASON: Final = 500


class Notice(NamedTuple):
    """A message to people. `kind` decides colours and symbols where a channel has some."""

    title: str
    body: str
    kind: Literal["warning", "failure", "success"]


# Sends a notice once; returns why it was not delivered, empty where it was.
Send = Callable[[Notice], str]


def channels(urls: str) -> dict[str, Send]:
    """The channels of addresses that are separated by spaces, in their order.

    A channel's name is the scheme and the place of its address, such as `slack-2`: both tell
    nothing of the secrets in it. Redirects are not followed.

    Raises:
        ValueError: Apprise does not read an address. The message does not repeat it.
    """
    if not urls.strip():
        return {}
    import apprise

    manager: Any = apprise.NotificationManager
    known = manager().schemas()
    asset = apprise.AppriseAsset(async_mode=False, http_redirects=False)
    made = {}
    for number, url in enumerate(urls.split(), 1):
        scheme = url.partition("://")[0].lower()
        if scheme not in known:
            hint = f": {did_you_mean(scheme, known)}" if "://" in url else ""
            raise ValueError(f"address {number} has no scheme that apprise knows{hint}")
        service = apprise.Apprise.instantiate(url, asset=asset)
        if service is None:
            raise ValueError(
                f"apprise can't read address {number}, of the scheme {scheme}:"
                " see https://github.com/caronc/apprise/wiki"
            )
        made[f"{scheme}-{number}"] = _sender(service, asset)
    return made


def _sender(service: "NotifyBase", asset: "AppriseAsset") -> Send:
    import apprise

    target = apprise.Apprise(asset=asset)
    target.add(service)

    def send(notice: Notice) -> str:
        result = target.notify(
            notice.body, notice.title, apprise.NotifyType(notice.kind), apprise.NotifyFormat.TEXT
        )
        if result:
            return ""
        reasons = [entry.message for each in result for attempt in each for entry in attempt]
        return " ".join(reasons)[:_LONGEST_REASON] or "apprise tells no reason"

    return send
