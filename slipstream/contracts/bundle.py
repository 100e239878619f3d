"""The manifest of a model bundle: what training promises about the files that serving loads."""

from pydantic import BaseModel, ConfigDict, Field, JsonValue

# 2 may have networks, session neighbours and a ranker; older ones can still be read.
BUNDLE_SCHEMA_VERSION = 2


class Histogram(BaseModel):
    """A distribution at training time: `counts[i]` values with `edges[i] <= x < edges[i + 1]`.

    There is one more edge than counts. The outermost bins also count values beyond the edges.
    """

    model_config = ConfigDict(frozen=True)

    edges: list[float]
    counts: list[int]


class DataSummary(BaseModel):
    """Size and period of the data that a bundle was fitted on.

    `from` and `until` are the first and last event times in milliseconds.
    """

    model_config = ConfigDict(frozen=True, populate_by_name=True)

    visitors: int
    items: int
    events: int
    from_: int | None = Field(default=None, alias="from")
    until: int | None = None


class FileEntry(BaseModel):
    """Size and SHA-256 (hexadecimal) of one file of the bundle."""

    model_config = ConfigDict(frozen=True)

    sha256: str
    bytes: int


class Manifest(BaseModel):
    """`manifest.json` of a bundle directory; times are milliseconds since the epoch, UTC.

    `files` names every other file of the directory; a loader refuses a bundle whose files differ
    from it, and a `schema_version` that it does not know. Serialise with `by_alias=True`.
    """

    version: str
    created_at: int
    profile: str
    code_commit: str | None = None
    lake_version: int | None = None
    seed: int = 0
    data: DataSummary
    parameters: dict[str, JsonValue] = {}
    metrics: dict[str, JsonValue] = {}
    features: list[str] = []
    reference: dict[str, Histogram] = {}
    files: dict[str, FileEntry] = {}
    schema_version: int = BUNDLE_SCHEMA_VERSION
