import socket

import pytest

from slipstream_cli.local.processes import free_port, is_free


def test_a_free_port_is_given_once_and_a_server_can_listen_there() -> None:
    ports = [free_port() for _ in range(100)]
    assert len(set(ports)) == len(ports)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", ports[0]))
    assert is_free(ports[0])
    with socket.create_server(("127.0.0.1", ports[0])):
        assert not is_free(ports[0])
        with socket.create_connection(("127.0.0.1", ports[0])):
            pass
    # Another process that wants a port.
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(("127.0.0.1", ports[0]))
