"""The pages that are written from the code: docs/configuration.md, docs/features.md, docs/topics.md
and .env.example.
"""

import importlib
import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from slipstream.chassis.settings import Section, ServiceSettings
from slipstream.contracts.services import SERVICES
from slipstream.contracts.topics import TOPICS, Topic
from slipstream.features.declarations import FeatureRegistry, FeatureView
from slipstream.features.views import REGISTRY
from slipstream.ingress.settings import IngressSettings
from slipstream_cli.local.plan import DATA_DIR, DEFAULT_DATA_DIR

_KINDS = {
    "int": "whole number",
    "float": "number",
    "str": "text",
    "bool": "true, false",
    "SecretStr": "text (secret)",
    "Path": "path",
}
_GENERATED = "Written by `slipstream docs` from the code; change it there."


@dataclass(frozen=True)
class Setting:
    """One environment variable."""

    variable: str
    kind: str
    default: str
    description: str


@dataclass(frozen=True)
class Chapter:
    """The settings of one section, with its docstring."""

    title: str
    text: str
    settings: list[Setting]


def pages() -> dict[str, str]:
    """Each page's text by its path in the repository."""
    chapters = list(_chapters())
    return {
        "docs/configuration.md": _configuration(chapters),
        "docs/features.md": _features(REGISTRY),
        "docs/topics.md": _topics(),
        ".env.example": _env_example(chapters),
    }


def _chapters() -> Iterator[Chapter]:
    folder = f"the data folder, unless `--data-dir` names one; the demo's is `demo` in it ({DEFAULT_DATA_DIR}/demo by default)"
    yield Chapter(
        "Commands",
        "For the commands that take `--data-dir`; the services have a setting for each of their folders.",
        [Setting(DATA_DIR, "path", str(DEFAULT_DATA_DIR), folder)],
    )
    yield from _of_class(ServiceSettings, "Every service", skip=frozenset())
    yield from _of_class(
        IngressSettings, "Ingestion and features", skip=frozenset(ServiceSettings.model_fields)
    )
    shared = frozenset(IngressSettings.model_fields)
    for name in SERVICES:
        settings = getattr(
            importlib.import_module(f"services.{name}.settings"), f"{name.capitalize()}Settings"
        )
        yield from _of_class(settings, name.capitalize(), skip=shared)


def _of_class(
    settings: type[ServiceSettings], title: str, skip: frozenset[str]
) -> Iterator[Chapter]:
    plain: list[tuple[str, FieldInfo]] = []
    sections: list[tuple[str, FieldInfo]] = []
    for name, field in settings.model_fields.items():
        if name not in skip:
            (sections if _section(field) else plain).append((name, field))
    if plain:
        yield Chapter(
            title, "", [_setting(f"SLIPSTREAM_{name.upper()}", field) for name, field in plain]
        )
    for name, field in sections:
        heading = f"{title}: {name}" if name != title.lower() else title
        yield from _of_section(field, f"SLIPSTREAM_{name.upper()}", heading)


def _of_section(field: FieldInfo, prefix: str, title: str) -> Iterator[Chapter]:
    section = _section(field)
    assert section is not None  # noqa: S101
    values = field.get_default(call_default_factory=True) or section
    settings = []
    nested = []
    for name, inner in section.model_fields.items():
        variable = f"{prefix}__{name.upper()}"
        if _section(inner):
            nested.append((inner, variable, f"{title}, {name}"))
        else:
            settings.append(_setting(variable, inner, getattr(values, name, inner.default)))
    yield Chapter(title, (section.__doc__ or "").strip(), settings)
    for inner, variable, heading in nested:
        yield from _of_section(inner, variable, heading)


def _section(field: FieldInfo) -> type[BaseModel] | None:
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, Section) else None


def _setting(variable: str, field: FieldInfo, value: object = ...) -> Setting:
    default = field.get_default(call_default_factory=True) if value is ... else value
    return Setting(
        variable, _kind(field.annotation), _shown(default), (field.description or "").strip()
    )


def _shown(value: object) -> str:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, bool):
        return str(value).lower()
    if value is None or value == {} or "PydanticUndefined" in repr(value):
        return ""
    return str(value)


def _kind(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return ", ".join(str(argument) for argument in arguments)
    if origin in (Union, types.UnionType):
        return " or ".join(_kind(argument) for argument in arguments if argument is not type(None))
    if origin is dict:
        return "JSON object"
    if origin in (list, tuple, frozenset, set):
        return "JSON list"
    name = getattr(annotation, "__name__", str(annotation))
    return _KINDS.get(name, name)


def _configuration(chapters: list[Chapter]) -> str:
    lines = [
        "# Configuration",
        "",
        f"<!-- {_GENERATED} -->",
        "",
        "Every setting is an environment variable. `slipstream up` and `slipstream demo` choose ports, and folders and embedded",
        "servers where none are set, and pass on everything else. A wrong value stops a service at its start, with the",
        "variable's name. `.env.example` has the same variables, to be copied.",
        "",
    ]
    for chapter in chapters:
        lines += [f"## {chapter.title}", ""]
        if chapter.text:
            lines += [*(line.strip() for line in chapter.text.splitlines()), ""]
        lines += ["| Variable | Default | Values | Meaning |", "|---|---|---|---|"]
        for setting in chapter.settings:
            default = f"`{setting.default}`" if setting.default else ""
            description = setting.description.replace("|", "\\|")
            lines.append(f"| `{setting.variable}` | {default} | {setting.kind} | {description} |")
        lines.append("")
    return "\n".join(lines)


def _env_example(chapters: list[Chapter]) -> str:
    lines = [
        f"# {_GENERATED}",
        "# All settings with their defaults. Docker Compose reads a copy named .env; in a shell: set -a; . ./.env; set +a",
        "",
    ]
    for chapter in chapters:
        lines.append(f"# ---- {chapter.title}")
        for setting in chapter.settings:
            if setting.description:
                lines.append(f"# {setting.description}")
            lines.append(f"#{setting.variable}={setting.default}")
        lines.append("")
    return "\n".join(lines)


def _features(registry: FeatureRegistry) -> str:
    lines = [
        "# Features",
        "",
        f"<!-- {_GENERATED} -->",
        "",
        "What `slipstream/features/views.py` declares; a running service tells the same at `GET /v1/feature-views` and",
        "`GET /v1/feature-services`. Types have Feast's names. A default stands for an entity that was never seen. A value is",
        "marked `OUTSIDE_MAX_AGE` and left out once its entity has had no event for the view's time to live.",
        "",
        "Event time decides: an event that comes late, by up to 24 hours, counts in every window as if it had come in time. A",
        "visitor's windows end at the moment of asking, to the millisecond for the newest 100 events on items; events before",
        "those, and searches and impressions, count by tiles of five minutes (1 h), hours (1 d) or days (7 d, 30 d). An item's",
        "windows are whole hours or days.",
        "",
        "| View | Of | Join keys | Kind | Time to live | |",
        "|---|---|---|---|---|---|",
    ]
    for view in registry.views:
        keys = ", ".join(f"`{key}`" for key in view.join_keys)
        days = view.ttl_s // 86_400
        lines.append(
            f"| [`{view.name}`](#{view.name}) | {view.entity} | {keys} | {view.kind} | {days} days | {view.description} |"
        )
    lines += [
        "",
        "Kinds: `stored` is read off the state that the stream keeps; `derived` is computed when it is asked for, of the state",
        "and of the catalogue as it is then; `request` also needs what the request says.",
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
        lines += [", ".join(f"`{name}`" for name in service.features), ""]
    return "\n".join(lines)


def _view(view: FeatureView) -> Iterator[str]:
    yield from (f"## {view.name}", "", f"{view.description[0].upper()}{view.description[1:]}.", "")
    yield from ("| Feature | Type | Default | |", "|---|---|---|---|")
    for feature in view.fields:
        default = "empty" if feature.default in ((), "") else f"{feature.default:g}"
        yield f"| `{feature.name}` | {feature.dtype} | {default} | {feature.description} |"
    yield ""


def _topics() -> str:
    lines = [
        "# Topics",
        "",
        f"<!-- {_GENERATED} -->",
        "",
        "Names on the broker are prefixed with the namespace (`slipstream.interactions.v1`). Values are JSON; a field may be",
        "added within a version, anything else takes a new topic. Times are milliseconds since the epoch, UTC.",
        "",
        "| Topic | Key | Partitions | Kept | Written by | Read by | Carries |",
        "|---|---|---|---|---|---|---|",
    ]
    for topic in TOPICS:
        kept = (
            "newest of each key" if topic.compacted else f"{topic.retention_ms // 86_400_000} days"
        )
        writers, readers = ", ".join(topic.producers), ", ".join(topic.consumers) or "people"
        name = f"[`{topic.name}`](#{topic.name.replace('.', '')})"
        lines.append(
            f"| {name} | `{topic.key}` | {topic.partitions} | {kept} | {writers} | {readers} | {topic.carries} |"
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
