"""Pages of reference: configuration, features, security, topics, and .env.example."""

from collections.abc import Iterator
from typing import Any, Final

from generate.settings_pages import (
    GENERATED,
    chapters,
    configuration_page,
    env_example,
    paragraph,
)
from slipstream.chassis.access.guard import demand_of, routes_of
from slipstream.contracts.access import Scope
from slipstream.contracts.services import SERVICES
from slipstream.contracts.topics import TOPICS, Topic
from slipstream.features.views import REGISTRY, FeatureRegistry, FeatureView
from slipstream_cli.commands.openapi import app_of


def reference_pages() -> dict[str, str]:
    """Texts of the pages, by path in the repository."""
    settings = list(chapters())
    return {
        "docs/configuration.md": configuration_page(settings),
        "docs/features.md": _features(REGISTRY),
        "docs/security.md": security_page(),
        "docs/topics.md": _topics(),
        ".env.example": env_example(settings),
    }


def _features(registry: FeatureRegistry) -> str:
    lines = [
        "# Features",
        "",
        f"<!-- {GENERATED} -->",
        "",
        *paragraph(
            "The features that `slipstream/features/views.py` declares. A running service returns"
            " the same at `GET /v1/feature-views` and `GET /v1/feature-services`. Types have"
            " Feast's names. The default is the value of an entity without events. A value is"
            " marked `OUTSIDE_MAX_AGE` and left out once its entity has had no event for the view's"
            " time to live. In answers of Feast's shape an empty list is a null."
        ),
        "",
        *paragraph(
            "Event time decides: an event that arrives up to 24 hours late counts in every window"
            " as if it had arrived in time. A visitor's windows end at the moment of the request."
            " The newest 100 events on items count to the millisecond. Earlier ones, searches and"
            " impressions count by tiles of five minutes (1 h), hours (1 d) or days (7 d, 30 d). An"
            " item's windows are whole hours or days."
        ),
        "",
        *paragraph(
            "To look at one entity, `GET /v1/features/VIEW/ID` gives all features of a view with"
            " the counts of the entity, however old: ids of visitors for `visitor`, `session` and"
            " `visitor_affinity`, of items for `item` and `item_neighbours`. The view of both is"
            " `GET /v1/features/request?user_id=…&item_id=…`. Programs read many at once by"
            " `POST /get-online-features`."
        ),
        "",
        "| View | Of | Join keys | Kind | Time to live | |",
        "|---|---|---|---|---|---|",
    ]
    for view in registry.views:
        keys = ", ".join(f"`{key}`" for key in view.join_keys)
        days = view.ttl_s // 86_400
        lines.append(
            f"| [`{view.name}`](#{view.name}) | {view.entity} | {keys} | {view.kind} | {days} days"
            f" | {view.description} |"
        )
    lines += [
        "",
        *paragraph(
            "Kinds: `stored` features are read from the state that the stream keeps. `derived`"
            " features are computed at the request, from the state and the catalogue of that"
            " moment."
            " `request` features also need values in the request."
        ),
        "",
    ]
    for view in registry.views:
        lines += _view(view)
    lines += [
        "## Feature services",
        "",
        "A feature service is a list of features under a name.",
        "",
    ]
    for service in registry.services:
        lines += [
            f"### {service.name}",
            "",
            f"{service.description[0].upper()}{service.description[1:]}.",
            "",
        ]
        lines += [*paragraph(", ".join(f"`{name}`" for name in service.features)), ""]
    return "\n".join(lines)


def _view(view: FeatureView) -> Iterator[str]:
    description = f"{view.description[0].upper()}{view.description[1:]}."
    yield from (f"## {view.name}", "", *paragraph(description), "")
    yield from ("| Feature | Type | Default | |", "|---|---|---|---|")
    for feature in view.fields:
        default = "empty" if feature.default in ((), "") else f"{feature.default:g}"
        yield f"| `{feature.name}` | {feature.dtype} | {default} | {feature.description} |"
    yield ""


# The join was measured with librdkafka 2.16 on Tansu 0.6: half of 2, 6, 10 and 45 seconds.
_READING: Final = [
    *paragraph(
        "Any client of Kafka reads them. The embedded broker answers a member that joins a group"
        " after half of its `session.timeout.ms`, every time: with librdkafka's default of 45 s the"
        " first record comes after 23 s. A shorter session makes it a second. Apache Kafka waits 3"
        " s, once for a new group. Without a group nothing waits:"
    ),
    "",
    "```console",
    "$ kcat -C -b localhost:9092 -t slipstream.interactions.v1 -o beginning",
    "$ kcat -b localhost:9092 -X session.timeout.ms=2000 -X heartbeat.interval.ms=500 \\",
    "    -X auto.offset.reset=earliest -G my-group slipstream.interactions.v1",
    "```",
    "",
]


def _topics() -> str:
    lines = [
        "# Topics",
        "",
        f"<!-- {GENERATED} -->",
        "",
        *paragraph(
            "Names on the broker are prefixed with the namespace (`slipstream.interactions.v1`)."
            " Values are JSON. A field may be added within a version; any other change takes a new"
            " topic. Times are milliseconds since the epoch, UTC."
        ),
        "",
        *_READING,
        "| Topic | Key | Partitions | Kept | Written by | Read by | Carries |",
        "|---|---|---|---|---|---|---|",
    ]
    for topic in TOPICS:
        limits = ["newest of each key"] if topic.compacted else []
        if topic.retention_ms is not None:
            limits.append(f"{topic.retention_ms // 86_400_000} days")
        kept = ", ".join(limits)
        writers, readers = ", ".join(topic.producers), ", ".join(topic.consumers) or "people"
        name = f"[`{topic.name}`](#{topic.name.replace('.', '')})"
        lines.append(
            f"| {name} | `{topic.key}` | {topic.partitions} | {kept} | {writers} | {readers}"
            f" | {topic.carries} |"
        )
    for topic in TOPICS:
        lines += ["", *_record(topic)]
    return "\n".join(lines) + "\n"


def _record(topic: Topic) -> Iterator[str]:
    yield f"## {topic.name}"
    yield ""
    yield from (line.strip() for line in (topic.record.__doc__ or "").strip().splitlines())
    yield ""
    yield "| Field | Type | |"
    yield "|---|---|---|"
    schema = topic.record.model_json_schema()
    required = set(schema.get("required", ()))
    for name, field in schema["properties"].items():
        yield f"| `{name}` | {_json_kind(field)} | {'required' if name in required else ''} |"


def _json_kind(field: dict[str, Any]) -> str:
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    if "const" in field:
        return f"`{field['const']}`"
    if "anyOf" in field:
        return " or ".join(_json_kind(option) for option in field["anyOf"])
    if "$ref" in field:
        return str(field["$ref"]).rpartition("/")[2]
    if field.get("type") == "array":
        return f"list of {_json_kind(field.get('items', {}))}"
    return str(field.get("type", "any"))


_SCOPES: Final = {
    Scope.EVENTS: "send events",
    Scope.IDENTIFY: "send `identify` and `alias`, alone or in a batch; sign for pages",
    Scope.CATALOGUE: "insert, replace, patch and delete items; insert, replace and patch users",
    Scope.ERASE: "erase a user, read the receipt",
    Scope.IMPORT: "send history of any age",
    Scope.READ: "read recommendations, features, runs, models, reports, placements, experiments",
    Scope.OPERATE: "start and cancel runs, promote, roll back, change placements and experiments,"
    " recompute answers",
    Scope.ADMIN: "manage keys, read audit records, export what is kept of a user",
    Scope.RECOMMEND: "read lists of a visitor who is proven, in a page (docs/tracker.md)",
    Scope.SERVICE: "read a slate with its history, as serving does; in services' tokens",
}
_PARAGRAPHS: Final = (
    "Every request to an endpoint below shows a credential that has the endpoint's scope, unless"
    " the endpoint is open. 401 means that the credential is missing, wrong or ended, 403 that it"
    " lacks the scope. Ingestion takes write keys (Basic authentication with the key as user name,"
    " or `writeKey` in the body), the other services take a bearer token."
    " `SLIPSTREAM_HTTP__API_TOKEN` has the scopes `read`, `operate` and `admin`."
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
    "Serving takes a browser's key, of the scope `recommend`, for lists of one visitor: of an"
    " anonymous id that the request proves by the browser's secret, or of a user proven by such a"
    " token (`X-Slipstream-Proof`, docs/tracker.md). It gets no filter, no account of rules, and"
    " the attributes in `SLIPSTREAM_SERVING__PAGE_ATTRIBUTES` alone. Pages of"
    " `SLIPSTREAM_SERVING__CORS_ORIGINS` may read the answers; by default none may.",
    "By pages' links a user gains 20 anonymous visitors an hour"
    " (`SLIPSTREAM_INGESTION__BROWSER_LINKS_PER_USER`), and as many with a proof; further links are"
    " rejected with `too_many_links`.",
    "Models and lists learn from 3 new visitors a day of one address, or 1 % of a browser's key's"
    " (`SLIPSTREAM_INGESTION__BROWSER_NEW_VISITORS`), and from a visitor once for each item and"
    " day. What others send lives for half an hour in Redis (docs/adr/0117).",
    "A key may be made from a digest, and then opens what its record says: a digest of a browser's"
    " key would open that to everyone, so make one of a secret that no page has. What a page says"
    " of a user's traits counts until a server has named the user (docs/events.md).",
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
    "People sign in to monitoring's console (`POST /v1/session`) with the API token, a key or a"
    " JWT. The cookie stands for it for twelve hours at most, until sign-out, and while the"
    " credential counts. A request by session must come from a page of exactly this origin"
    " (`Origin`, `Sec-Fetch-Site`, else `Referer`), or gets 403 with the code `foreign_origin`;"
    " so a proxy must pass `Host` on. A session that has ended gets 401 with `session_ended`."
    " Without credentials there is no sign-in. What the console asks of other services goes"
    " through monitoring (`/v1/peers/…`), with the scope that they demand.",
    "Requests that change something, and those without a key to a service that asks for none,"
    " are refused (403) if a page of another origin sent them (`Origin`), or if they name the"
    " service by a name with dots that `SLIPSTREAM_HTTP__HOSTS` does not list (`Host`): pages"
    " elsewhere could reach a service behind its user's firewall otherwise. Ingestion is not"
    " guarded so, as its pages are elsewhere, and every request names its key itself.",
    "Logs and metrics name a request by its route, such as `/v1/users/{user_id:path}`, and by"
    " `unmatched` where it has none: paths may name a visitor or hold a key. Logs name the route of"
    " a refused request, too. Metrics count what was answered before it was routed as `unmatched`,"
    " and methods that a route does not have as `other`: whoever sends anything adds at most a"
    " series for each route and status.",
    "Open endpoints hold nothing that is not public, or what probes and Prometheus need. Metrics"
    " and readiness tell how much is going on: let no stranger reach them. `/docs` loads nothing"
    " from another host, and monitoring has none: its origin has sessions.",
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


def _rows(service: str) -> Iterator[str]:
    for route in routes_of(app_of(service)):
        demand = demand_of(route)
        methods = ", ".join(sorted(route.methods or ()))
        needed = f"`{demand.scope}`" if demand.scope else "open"
        needed += f" or `{demand.also}`" if demand.also else ""
        yield f"| {methods} | `{route.path}` | {needed} |"
