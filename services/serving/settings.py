"""The settings of serving."""

from pathlib import Path

from pydantic import Field

from slipstream.chassis.settings import Section, ServiceSettings


class ServingSection(Section):
    """Limits of answering, and the following of models."""

    workers: int = Field(
        1,
        ge=1,
        le=64,
        description="processes that answer on the port, one for each core that serving may use; "
        "the first one fetches models for all",
    )
    cache_dir: Path = Field(
        Path(".slipstream/serving"),
        description="folder of downloaded model bundles; {hostname} as its last part stands for "
        "the machine's name, so that replicas may share a volume, and the folders of replicas "
        "that are gone are deleted",
    )
    redis_timeout_s: float = Field(
        0.1,
        gt=0,
        description="longest wait of a request for the online store, not counting what the event "
        "loop is late; then it is answered without the visitor's history",
    )
    trending_refresh_s: float = Field(1.0, gt=0, description="greatest age of the trending list")
    kept_lists: int = Field(
        1_000,
        ge=0,
        description="lists of the model that a process keeps for visitors who do nothing "
        "meanwhile, for at most five minutes; 0 keeps none",
    )
    longest_wait_s: float = Field(
        1.0,
        gt=0,
        description="wait from which a request is refused with 503, as those in work would keep it "
        "that long",
    )
    lists_per_s: float = Field(
        0.0,
        ge=0,
        description="lists that one key may ask each process for in a second; 0 for any number",
    )
    cors_origins: str = Field(
        "",
        description="origins with pages that may read lists, with a key of the scope recommend, "
        "separated by commas; *: all; empty: none",
    )
    browser_lists_per_s: float = Field(
        100.0,
        ge=0,
        description="lists that pages may ask each process for in a second with one key, which "
        "everyone can see; 0 for any number",
    )
    page_attributes: str = Field(
        "title,name,description,categories,brand,price,image_url,url",
        description="attributes of items that pages may read, separated by commas",
    )
    champion_poll_s: float = Field(
        30.0,
        gt=0,
        description="interval at which serving polls training for the champion, in addition to its "
        "events",
    )
    circumstances_bytes: int = Field(
        16_384,
        ge=0,
        description="most bytes of the circumstances that each slate is recorded with, so that the "
        "answer can be made again; of larger ones only the size is recorded, and 0 records none",
    )
    variant_models: int = Field(
        2,
        ge=0,
        le=16,
        description="models held for variants of experiments, in addition to the champion; the "
        "champion answers for a variant with a model beyond these",
    )
    require_model: bool = Field(
        True,
        description="whether a service that has no model is unready until training has answered: "
        "it then has the champion, or knows that there is none; false: it answers without",
    )
    model_wait_s: float = Field(
        0.0,
        ge=0,
        description="seconds after which a service that has no model is ready nevertheless, where "
        "training has not answered or its champion can't be taken; it answers without a model "
        "until it has one; 0: no end",
    )


class ServingSettings(ServiceSettings):
    """The settings that serving reads from the environment."""

    serving: ServingSection = ServingSection()
