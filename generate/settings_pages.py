"""The pages of all settings: docs/configuration.md and .env.example."""

import importlib
import textwrap
import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from slipstream.chassis.settings import Section, ServiceSettings
from slipstream.contracts.services import SERVICES
from slipstream_cli.local.plan import DATA_DIR, DEFAULT_DATA_DIR

# First line of every generated page.
GENERATED = "Written by `make docs` from the code; change it there."
# The settings that people need first, and when to set each.
FIRST = {
    "SLIPSTREAM_DATA_DIR": "to keep a local stack's data elsewhere",
    "SLIPSTREAM_NAMESPACE": "if several stacks share Kafka and Redis",
    "SLIPSTREAM_KAFKA__BOOTSTRAP_SERVERS": "to use your Kafka",
    "SLIPSTREAM_KAFKA__REPLICATION_FACTOR": "to 3, if Kafka has three brokers",
    "SLIPSTREAM_KAFKA__INSTANCE_ID": "if replicas keep their names, so that they restart faster",
    "SLIPSTREAM_REDIS__URL": "to use your Redis, Sentinels or Redis Cluster",
    "SLIPSTREAM_DATABASE__URL": "to use PostgreSQL, as with several machines",
    "SLIPSTREAM_LAKE__URI": "to keep history in a bucket",
    "SLIPSTREAM_LAKE__STORAGE_OPTIONS": "if the bucket needs credentials or an address",
    "SLIPSTREAM_ARTIFACTS__DIRECTORY": "to keep models on a volume",
    "SLIPSTREAM_HTTP__HOST": "to 0.0.0.0, so that other machines reach the service",
    "SLIPSTREAM_HTTP__API_TOKEN": "before other machines reach the service",
    "SLIPSTREAM_HTTP__HOSTS": "if people reach the services by names of your own",
    "SLIPSTREAM_HTTP__TRUSTED_PROXIES": "if a load balancer or ingress stands in front",
    "SLIPSTREAM_INGESTION__WRITE_KEYS": "always: keys of the servers that send events",
    "SLIPSTREAM_INGESTION__BROWSER_KEYS": "if web pages send events",
    "SLIPSTREAM_FEATURES__VISITOR_TTL_DAYS": "to save memory of Redis",
    "SLIPSTREAM_TRAINING__SCHEDULE_MINUTES": "to train more or less often",
    "SLIPSTREAM_SERVING__WORKERS": "to the number of cores that serving may use",
    "SLIPSTREAM_MONITORING__NOTIFY_URLS": "to receive alerts without Alertmanager",
}
_KINDS = {
    "int": "whole number",
    "float": "number",
    "str": "text",
    "bool": "true, false",
    "SecretStr": "text (secret)",
    "Path": "path",
}


@dataclass(frozen=True)
class Setting:
    """One environment variable."""

    variable: str
    kind: str
    default: str
    description: str


@dataclass(frozen=True)
class Chapter:
    """The settings of one section, with the section's docstring."""

    title: str
    text: str
    settings: list[Setting]


def chapters() -> Iterator[Chapter]:
    """List all settings by section: those of commands, of every service, and of each service."""
    folder = (
        "the data folder, unless `--data-dir` names one;"
        f" the demo's is `demo` in it ({DEFAULT_DATA_DIR}/demo by default)"
    )
    yield Chapter(
        "Commands",
        "For the commands that take `--data-dir`; the services have a setting for each of their"
        " folders.",
        [Setting(DATA_DIR, "path", str(DEFAULT_DATA_DIR), folder)],
    )
    yield from _of_class(ServiceSettings, "Every service", skip=frozenset())
    shared = frozenset(ServiceSettings.model_fields)
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


def paragraph(text: str) -> list[str]:
    """Wrap a paragraph of a page at 100 columns."""
    return textwrap.wrap(text, 100, break_long_words=False, break_on_hyphens=False)


def configuration_page(chapters: list[Chapter]) -> str:
    """Format the settings as docs/configuration.md."""
    lines = [
        "# Configuration",
        "",
        f"<!-- {GENERATED} -->",
        "",
        *paragraph(
            "Every setting is an environment variable. `slipstream up` and `slipstream demo` choose"
            " the ports. If no setting names a folder or a server, they choose a folder or start an"
            " embedded server. They pass on all other settings. A wrong value stops a service at"
            " its start; the error names the variable. `.env.example` has the same variables, to"
            " be copied."
        ),
        "",
        "## Settings to start with",
        "",
        "Their meaning is in the tables below.",
        "",
        "| Variable | Default | Set it |",
        "|---|---|---|",
    ]
    defaults = {one.variable: one.default for chapter in chapters for one in chapter.settings}
    for variable, reason in FIRST.items():
        default = f"`{defaults[variable]}`" if defaults[variable] else ""
        lines.append(f"| `{variable}` | {default} | {reason} |")
    lines.append("")
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


def env_example(chapters: list[Chapter]) -> str:
    """Format the settings as .env.example."""
    lines = [
        f"# {GENERATED}",
        "# All settings with their defaults. Docker Compose reads a copy named .env;"
        " in a shell: set -a; . ./.env; set +a",
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
