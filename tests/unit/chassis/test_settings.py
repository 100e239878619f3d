import pytest
from pydantic import ValidationError

from slipstream.chassis.settings import ServiceSettings


def test_environment_overrides_one_field_and_leaves_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SLIPSTREAM_KAFKA__BOOTSTRAP_SERVERS", "kafka:9092")
    settings = ServiceSettings()
    assert settings.kafka.bootstrap_servers == "kafka:9092"
    assert settings.kafka.fetch_max_wait_ms == 20


def test_secrets_are_not_in_the_representation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLIPSTREAM_REDIS__URL", "redis://:hunter2@redis:6379/0")
    assert "hunter2" not in repr(ServiceSettings())


def test_unknown_name_in_a_section_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLIPSTREAM_KAFKA__BOOTSTRAP_SERVER", "kafka:9092")
    with pytest.raises(ValidationError, match="bootstrap_server"):
        ServiceSettings()


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError):
        ServiceSettings().kafka.bootstrap_servers = "elsewhere"  # type: ignore[misc]


@pytest.mark.parametrize("namespace", ["", "Shop", "1shop", "a.b", "x" * 41])
def test_namespace_that_could_collide_or_confuse_is_refused(namespace: str) -> None:
    with pytest.raises(ValidationError):
        ServiceSettings(namespace=namespace)
