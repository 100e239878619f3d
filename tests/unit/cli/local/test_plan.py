import socket
from pathlib import Path

import pytest

from services.ingestion.settings import configured_keys
from slipstream.contracts.services import SERVICES
from slipstream_cli.local.plan import DEFAULT_PORTS, make_plan
from slipstream_cli.local.processes import StartError, free_port


def test_plan_tells_every_service_where_the_others_are(tmp_path: Path) -> None:
    plan = make_plan(tmp_path, {}, any_ports=True)
    assert len(set(plan.ports.values())) == len(DEFAULT_PORTS)
    for name in SERVICES:
        environment = plan.service_environment(name)
        assert environment["SLIPSTREAM_HTTP__PORT"] == str(plan.ports[name])
        assert environment["SLIPSTREAM_PEERS__TRAINING_URL"] == plan.urls["training"]
        assert (
            environment["SLIPSTREAM_KAFKA__BOOTSTRAP_SERVERS"]
            == f"127.0.0.1:{plan.ports['broker']}"
        )
        assert environment["SLIPSTREAM_REDIS__URL"] == f"redis://127.0.0.1:{plan.ports['valkey']}/0"
        assert environment["SLIPSTREAM_LAKE__URI"] == str(tmp_path / "lake")


def test_plan_starts_no_server_that_a_url_names(tmp_path: Path) -> None:
    given = {"SLIPSTREAM_KAFKA__BOOTSTRAP_SERVERS": "kafka:9092", "SLIPSTREAM_REDIS__URL": ""}
    plan = make_plan(tmp_path, given, any_ports=True)
    assert "broker" not in plan.ports
    assert "valkey" in plan.ports
    assert plan.environment["SLIPSTREAM_KAFKA__BOOTSTRAP_SERVERS"] == "kafka:9092"
    assert "SLIPSTREAM_KAFKA__SESSION_TIMEOUT_MS" not in plan.environment


def test_plan_passes_on_what_is_set(tmp_path: Path) -> None:
    given = {
        "PATH": "/bin",
        "SLIPSTREAM_LAKE__URI": "s3://history",
        "SLIPSTREAM_INGESTION__WRITE_KEYS": "shop:a:b,web:c",
    }
    plan = make_plan(tmp_path, given, any_ports=True)
    assert given.items() <= plan.environment.items()
    assert plan.write_key == "a:b"


def test_a_plan_has_a_key_for_pages_of_its_own(tmp_path: Path) -> None:
    plans = [make_plan(tmp_path, {}, any_ports=True) for _ in range(2)]
    keys = {plan.environment["SLIPSTREAM_MONITORING__SHOP_KEY"] for plan in plans}
    assert len(keys) == 2 and min(map(len, keys)) > 20
    for plan in plans:
        environment = plan.environment
        known = configured_keys(
            environment["SLIPSTREAM_INGESTION__WRITE_KEYS"],
            environment["SLIPSTREAM_INGESTION__BROWSER_KEYS"],
            "*",
        )
        assert sorted(key.principal.browser for key in known.values()) == [False, True]
        page = environment["SLIPSTREAM_MONITORING__SHOP_KEY"]
        assert environment["SLIPSTREAM_INGESTION__BROWSER_KEYS"] == f"page:{page}"
    given = {"SLIPSTREAM_INGESTION__BROWSER_KEYS": "shop:mine, other:theirs"}
    own = make_plan(tmp_path, given, any_ports=True)
    assert own.service_environment("monitoring")["SLIPSTREAM_MONITORING__SHOP_KEY"] == "mine"


def test_plan_moves_a_default_port_that_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        busy = taken.getsockname()[1]
        monkeypatch.setitem(DEFAULT_PORTS, "serving", busy)
        monkeypatch.setitem(DEFAULT_PORTS, "monitoring", busy + 1)
        plan = make_plan(tmp_path, {})
    assert busy + 1 < plan.ports["serving"] < busy + 100


def test_plan_keeps_a_port_that_was_given_or_says_that_it_is_taken(tmp_path: Path) -> None:
    port = free_port()
    assert make_plan(tmp_path, {}, {"serving": port}, any_ports=True).ports["serving"] == port
    with socket.create_server(("127.0.0.1", 0)) as taken:
        busy = taken.getsockname()[1]
        with pytest.raises(StartError, match=f"serving can't start: port {busy} is in use"):
            make_plan(tmp_path, {}, {"serving": busy})


def test_plan_refuses_a_port_for_what_does_not_run_here(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="nothing named broker starts here; choose from"):
        make_plan(tmp_path, {"SLIPSTREAM_KAFKA__BOOTSTRAP_SERVERS": "kafka:9092"}, {"broker": 1234})
