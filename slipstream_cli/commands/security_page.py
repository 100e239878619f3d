"""The page docs/security.md: who may do what, and the table of every endpoint and its scope."""

import importlib
from collections.abc import Iterator
from typing import Any, Final

from pydantic import SecretStr

from slipstream.chassis.access.guard import demand_of, routes_of
from slipstream.chassis.settings import HttpSettings
from slipstream.contracts.access import Scope
from slipstream.contracts.services import SERVICES
from slipstream_cli.commands.settings_pages import GENERATED, paragraph

_SCOPES: Final = {
    Scope.EVENTS: "send events",
    Scope.IDENTIFY: "send `identify` and `alias`, alone or in a batch; sign for pages",
    Scope.CATALOGUE: "insert, replace and delete items; insert and replace users",
    Scope.ERASE: "erase a user, read the receipt",
    Scope.IMPORT: "send history of any age",
    Scope.READ: "read recommendations, features, runs, models, reports, placements, experiments",
    Scope.WRITE: "push rows to features; a row that deletes a user needs `admin`, too",
    Scope.OPERATE: "start and cancel runs, promote, roll back, change placements and experiments,"
    " replay answers",
    Scope.ADMIN: "manage keys, read audit records, export what is kept of a user",
    Scope.SERVICE: "read a slate with its history, for serving's replays; in services' tokens",
}
_PARAGRAPHS: Final = (
    "Every request to an endpoint below shows a credential that has the endpoint's scope, unless"
    " the endpoint is open. 401 means that the credential is missing, wrong or ended, 403 that it"
    " lacks the scope. Ingestion takes write keys (Basic authentication with the key as user name,"
    " or `writeKey` in the body), the other services take a bearer token."
    " `SLIPSTREAM_HTTP__API_TOKEN` has the scopes `read`, `write`, `operate` and `admin`."
    " Keys in `SLIPSTREAM_INGESTION__WRITE_KEYS` have all scopes of ingestion, those in"
    " `SLIPSTREAM_INGESTION__BROWSER_KEYS` have `events` and `identify`.",
    "Wrong credentials from one address are answered by 429 with `Retry-After` from the sixth in a"
    " minute on (code `wrong_credentials`). A right one passes meanwhile, and missing ones do not"
    " count. Each process counts for itself, IPv6 by /64, for up to 10,000 addresses. Behind a"
    " proxy, `SLIPSTREAM_HTTP__TRUSTED_PROXIES` must name it; else all its clients count as one.",
    "A signed token (JWT) does in the place of a key, in every service. Its `scope` lists scopes,"
    " separated by spaces; `sub` is who holds it; `iss`, `aud`, `exp`, and `nbf` and `iat` where"
    " they are there, are checked. A claim of another type is refused (401), and so is a time that"
    " is negative or beyond the year 9999, and a `sub` of more than 256 characters. It is signed"
    " by HS256 with `SLIPSTREAM_ACCESS__TOKEN_SECRET`, or by a key of the JWKS or PEM file that"
    " `SLIPSTREAM_ACCESS__TOKEN_KEYS` names (RS256, ES256, EdDSA). A key that is removed from that"
    " file verifies nothing any more 5 seconds later. A token can't be taken back, so let it hold"
    " for minutes. With a shared secret, services send one another tokens of five"
    " minutes with the scope `read`, else the API token. Serving's to features has `service`, too.",
    "A browser's key proves nothing about the visitor. A page may link an anonymous visitor to a"
    " user, but the visitor then sees nothing of the user. Events that a page sends in a user's"
    " name are kept apart until a server's key or a token proves them (docs/events.md). That token"
    " is a JWT (EdDSA) which the shop's server signs by a key derived from its write key. Ingestion"
    " verifies it with the public key in `access-keys.v1`. The token names the user and the"
    " anonymous id, has the audience `page`, is valid for ten minutes at most, and opens no"
    " endpoint.",
    "By pages' links a user gains 20 anonymous visitors an hour"
    " (`SLIPSTREAM_INGESTION__BROWSER_LINKS_PER_USER`), and as many with a proof; further links are"
    " rejected with `too_many_links`.",
    "`GET /v1/audit` of training lists who promoted, rolled back and cancelled; that of monitoring,"
    " who made, rotated and revoked keys, who changed placements and experiments, and who had a"
    " user erased (by the receipt's id; the user is not named).",
    "Who erases a user (`DELETE /v1/users/{user_id}` of ingestion) reads the receipt there, with"
    " the same key. Features exports what is kept of a user (`GET /v1/users/{user_id}/export`) to"
    " the scope `admin` alone, since it is everything of a person in one answer.",
    "Where a service but ingestion has nothing to verify credentials by, it asks for none. It then"
    " listens on this machine only: with `SLIPSTREAM_HTTP__HOST` beyond loopback it refuses to"
    " start, unless `SLIPSTREAM_HTTP__OPEN_WITHOUT_CREDENTIALS` is true. `docker-compose.yml` sets"
    " that, since it binds every port to this machine. In the same way it refuses an API token of"
    " fewer than 32 characters; `SLIPSTREAM_ACCESS__TOKEN_SECRET` has 32 or more everywhere.",
    "Commands and services write files for their own user alone (0600, folders 0700): lake,"
    " databases, models and logs tell of visitors.",
    "Requests that change something, and all requests to a service that asks for no credentials,"
    " are refused (403) if a page of another origin sent them (`Origin`), or if they name the"
    " service by a name with dots that `SLIPSTREAM_HTTP__HOSTS` does not list (`Host`): pages"
    " elsewhere could reach a service behind its user's firewall otherwise. Ingestion is not"
    " guarded so, as its pages are elsewhere, and every request names its key itself.",
    "Logs and metrics name a request by its route, such as `/v1/users/{user_id:path}`, also where"
    " it is refused, and by `unmatched` where it has none: paths may name a visitor or hold a key.",
    "Open endpoints hold nothing that is not public, or what probes and Prometheus need. Metrics"
    " and readiness tell how much is going on: let no stranger reach them. `/docs` loads nothing"
    " from another host.",
)


def security_page() -> str:
    """Generate the page from the routes of every service."""
    lines = ["# Security", "", f"<!-- {GENERATED} -->", ""]
    for text in _PARAGRAPHS:
        lines += [*paragraph(text), ""]
    lines += ["## Scopes", "", "| Scope | Right to |", "|---|---|"]
    lines += [f"| `{scope}` | {right} |" for scope, right in _SCOPES.items()]
    for service in SERVICES:
        lines += [
            "",
            f"## {service.capitalize()}",
            "",
            "| Method | Path | Scope |",
            "|---|---|---|",
        ]
        lines += _rows(service)
    return "\n".join(lines) + "\n"


def app_of(service: str, http: HttpSettings | None = None) -> Any:
    """Build a service's app, as it is before it opens: nothing is connected."""
    settings = getattr(
        importlib.import_module(f"services.{service}.settings"), f"{service.capitalize()}Settings"
    )
    own = {"ingestion": {"write_keys": SecretStr("shop:key")}} if service == "ingestion" else {}
    created = importlib.import_module(f"services.{service}.app").create_app
    return created(settings(http=http or HttpSettings(), **own))


def _rows(service: str) -> Iterator[str]:
    for route in routes_of(app_of(service)):
        demand = demand_of(route)
        methods = ", ".join(sorted(route.methods or ()))
        needed = f"`{demand.scope}`" if demand.scope else "open"
        needed += f" or `{Scope.SERVICE}`" if demand.or_service else ""
        yield f"| {methods} | `{route.path}` | {needed} |"
