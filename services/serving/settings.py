"""Settings of serving."""

from pathlib import Path

from pydantic import Field

from slipstream.chassis.settings import Section, ServiceSettings


class ServingSection(Section):
    """How recommendations are answered, and how models are followed."""

    cache_dir: Path = Field(
        Path(".slipstream/serving"), description="where downloaded model bundles are kept"
    )
    redis_timeout_s: float = Field(
        0.1,
        gt=0,
        description="how long a request waits for the online store before it is answered without the visitor's history",
    )
    trending_refresh_s: float = Field(1.0, gt=0, description="how old the trending list may be")
    champion_poll_s: float = Field(
        30.0, gt=0, description="how often training is asked for the champion, besides its events"
    )


class ServingSettings(ServiceSettings):
    """Everything that serving reads from the environment."""

    serving: ServingSection = ServingSection()
