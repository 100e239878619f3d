"""Bodies of answers about models in service, as the OpenAPI document has them."""

from pydantic import BaseModel

from slipstream.contracts.bundle import ModelMetrics


class VariantModel(BaseModel):
    """The model of an experiment's variant. `version` is null where none is held, and `problem`
    says why.
    """

    model: str
    version: str | None
    problem: str


class ServedModel(BaseModel):
    """The model in service; times are in ms.

    `items` is the size of its catalogue, `repeats` whether it recommends items of the history
    again. `previous` is the version before it, `problem` why a newer one could not be loaded.
    """

    version: str
    loaded_at: int
    items: int
    retrievers: list[str]
    repeats: bool
    created_at: int
    profile: str
    code_commit: str | None
    lake_version: int | None
    metrics: ModelMetrics
    previous: str | None
    problem: str | None
    variants: list[VariantModel]
