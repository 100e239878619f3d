"""The places of a stack: settings of its servers and stores, and the URLs of its services."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import SecretStr

from slipstream.contracts.services import SERVICES
from slipstream_cli.backups.places import settings_of
from slipstream_cli.peers import stack_on, target_url

if TYPE_CHECKING:
    from services.training.settings import TrainingSettings

_ELSEWHERE = "the variables SLIPSTREAM_PEERS__…_URL (docs/configuration.md)"


@dataclass(frozen=True, slots=True)
class Places:
    """The places of a stack.

    Attributes:
        settings: Settings of broker, Redis, lake, database and artifacts.
        urls: URLs of the five services, by name.
    """

    settings: "TrainingSettings"
    urls: Mapping[str, str]


def places_of(data_dir: Path) -> Places:
    """Find the stack on a data folder, or the one that the environment names.

    Raises:
        click.ClickException: No stack runs on the folder, and another one or none is named.
    """
    urls = {name: target_url(name, None, data_dir, otherwise=_ELSEWHERE)[0] for name in SERVICES}
    settings, running = settings_of(data_dir), stack_on(data_dir)
    if running:
        kafka = settings.kafka.model_copy(update={"bootstrap_servers": running["kafka"]})
        redis = settings.redis.model_copy(update={"url": SecretStr(running["redis"])})
        # A stack that an older version started does not tell the last two.
        address = running.get("database", settings.database.url.get_secret_value())
        database = settings.database.model_copy(update={"url": SecretStr(address)})
        lake = settings.lake.model_copy(update={"uri": running.get("lake", settings.lake.uri)})
        servers = {"kafka": kafka, "redis": redis, "database": database, "lake": lake}
        settings = settings.model_copy(update=servers | {"namespace": running["namespace"]})
    return Places(settings, urls)
