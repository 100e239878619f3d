"""Privacy settings, which every service that lets data in reads."""

from typing import Self

from pydantic import Field, SecretStr, model_validator

from slipstream.chassis.settings import Section, ServiceSettings, listed
from slipstream.ingress.privacy import Privacy


class PrivacySettings(Section):
    """Personal fields, and how they are published.

    Ingestion and features need the same values, since both let clients' data in.
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
