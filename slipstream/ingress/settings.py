"""Privacy settings, which every service that lets data in reads."""

from collections.abc import Mapping
from typing import Final, Self

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource

from slipstream.chassis.settings import Section, ServiceSettings, listed
from slipstream.ingress.privacy import Privacy

# Names from when only ingestion read these settings, with the present ones. An old name counts
# where the present one is unset or empty.
FORMER_VARIABLES: Final[Mapping[str, str]] = {
    "SLIPSTREAM_INGESTION__TRUNCATE_IP": "SLIPSTREAM_PRIVACY__TRUNCATE_IP",
    "SLIPSTREAM_INGESTION__PII_DROP": "SLIPSTREAM_PRIVACY__DROP_FIELDS",
    "SLIPSTREAM_INGESTION__PII_HASH": "SLIPSTREAM_PRIVACY__HASH_FIELDS",
    "SLIPSTREAM_INGESTION__PII_KEY": "SLIPSTREAM_PRIVACY__HASH_KEY",
}


class PrivacySettings(Section):
    """Personal fields, and how they are published.

    Ingestion and features need the same values, since both let clients' data in. The former names
    SLIPSTREAM_INGESTION__TRUNCATE_IP, __PII_DROP, __PII_HASH and __PII_KEY still work in both
    services, where the present one is unset or empty.
    """

    truncate_ip: bool = Field(True, description="keep IP addresses only without their last part")
    drop_fields: str = Field(
        "",
        description="properties and attributes of users to drop: names or dotted paths, several "
        "separated by commas",
    )
    hash_fields: str = Field(
        "",
        description="properties and attributes of users to keep only as hashes: names or dotted "
        "paths, several separated by commas",
    )
    hash_key: SecretStr = Field(
        SecretStr(""), description="key of these hashes; required with `hash_fields`"
    )

    @model_validator(mode="after")
    def _checked(self) -> Self:
        self.policy()
        return self

    def policy(self) -> Privacy:
        """The privacy policy that these settings describe. Raises ValueError if they make none."""
        return Privacy(
            drop=listed(self.drop_fields),
            hashed=listed(self.hash_fields),
            key=self.hash_key.get_secret_value(),
            truncate_ip=self.truncate_ip,
        )


class IngressSettings(ServiceSettings):
    """Base of the settings of a service that lets data in."""

    privacy: PrivacySettings = PrivacySettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The usual sources, with variables of former names under the present ones."""
        assert isinstance(env_settings, EnvSettingsSource)  # noqa: S101
        env_settings.env_vars = _renamed(env_settings.env_vars)
        return init_settings, env_settings, dotenv_settings, file_secret_settings


def _renamed(variables: Mapping[str, str | None]) -> dict[str, str | None]:
    """Variables with present names alone. pydantic-settings gives all names in lower case."""
    renamed = dict(variables)
    for former, present in FORMER_VARIABLES.items():
        value = renamed.pop(former.lower(), None)
        if value is not None and not renamed.get(present.lower()):
            renamed[present.lower()] = value
    return renamed
