"""Pages generated from the code: configuration, features, security, topics, .env.example, and
Kubernetes manifests.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from slipstream.contracts.topics import TOPICS, Topic
from slipstream.features.views import REGISTRY, FeatureRegistry, FeatureView
from slipstream_cli.commands.security_page import security_page
from slipstream_cli.commands.settings_pages import (
    GENERATED,
    chapters,
    configuration_page,
    env_example,
    paragraph,
)
from slipstream_cli.manifests.pages import manifest_pages


def pages(repository: Path) -> dict[str, str]:
    """Generate the pages; return their texts by path in the repository.

    Raises `FileNotFoundError` where `repository` is no checkout.
    """
    settings = list(chapters())
    return {
        "docs/configuration.md": configuration_page(settings),
        "docs/features.md": _features(REGISTRY),
        "docs/security.md": security_page(),
        "docs/topics.md": _topics(),
        ".env.example": env_example(settings),
        **manifest_pages(repository),
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
