"""The manifest of a model bundle: training's promise about the files that serving loads."""

from typing import Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    SerializerFunctionWrapHandler,
    model_serializer,
)

# A bundle of any other version is refused.
BUNDLE_SCHEMA_VERSION = 3


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


class FigureTable(BaseModel):
    """Figures by name, such as `ndcg@10`, and the sections that a subclass declares.

    In JSON, figures and sections are one object, and a section that is None is left out.
    """

    model_config = ConfigDict(frozen=True, extra="allow")
    __pydantic_extra__: dict[str, float]

    @property
    def figures(self) -> dict[str, float]:
        """Each figure by its name."""
        return dict(self.__pydantic_extra__)

    @model_serializer(mode="wrap")
    def _without_absent_sections(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in serialise(self).items() if value is not None}


class Ablation(BaseModel):
    """NDCG@10 of the parts of a recommender on the validation queries, without the ranker.

    `alone` has each retriever's, `blend` the blend's, `without` the blend's without each retriever
    that it weighs.
    """

    model_config = ConfigDict(frozen=True)

    alone: dict[str, float]
    blend: float
    without: dict[str, float]


class ValidationMetrics(FigureTable):
    """Figures on the validation queries, which blend and ranker were fitted on.

    `importance` has the NDCG@10 lost when one feature of the ranker is shuffled, by the feature's
    name; None without a ranker.
    """

    ablation: Ablation | None = None
    importance: dict[str, float] | None = None


class LearningCurve(BaseModel):
    """Training of the network by epoch: its loss, and its quality on validation, higher is better.

    `kept` is the number of epochs behind the kept weights. Quality is None without validation.
    """

    model_config = ConfigDict(frozen=True)

    kept: int
    loss: list[float | None]
    quality: list[float | None]


class SearchTrial(BaseModel):
    """A trial of the search for the network's parameters.

    `state` is `complete`, or why the trial ended before: `pruned` (worse than half of those before
    it), `out of time`, `diverged`. `quality` is that of its best epoch, None where it had none.
    """

    model_config = ConfigDict(frozen=True)

    number: int
    state: str
    quality: float | None
    epochs: int
    seconds: float
    parameters: dict[str, JsonValue]


class ModelMetrics(FigureTable):
    """Results of a bundle. Its figures are those on the test of its training run.

    The challenger's figures have bare names, those of a cohort begin with `cohort/<name>/`, those
    of the models compared with it with `champion/` or `popularity/`. `intervals` has both ends of
    the 95 % interval of the figures that have one.
    """

    intervals: dict[str, tuple[float, float]] | None = None
    validation: ValidationMetrics | None = None
    curve: LearningCurve | None = None
    search: list[SearchTrial] | None = None


class Manifest(BaseModel):
    """`manifest.json` of a bundle directory; times are milliseconds since the epoch, UTC.

    `files` names every other file of the directory; a loader refuses a bundle with other files, and
    a `schema_version` that is not its own. Serialise with `by_alias=True`.

    `lake_version` is the version of the interactions that the models were fitted on.
    `oldest_lake_version` is an earlier one where blend, ranker and parameters are those of another
    bundle.
    """

    version: str
    created_at: int
    profile: str
    code_commit: str | None = None
    lake_version: int | None = None
    oldest_lake_version: int | None = None
    seed: int = 0
    data: DataSummary
    parameters: dict[str, JsonValue] = {}
    metrics: ModelMetrics = ModelMetrics()
    features: list[str] = []
    files: dict[str, FileEntry] = {}
    schema_version: int = BUNDLE_SCHEMA_VERSION

    @property
    def learned_from(self) -> int | None:
        """The oldest version of the interactions that any part was fitted on; None if unknown."""
        return self.lake_version if self.oldest_lake_version is None else self.oldest_lake_version
