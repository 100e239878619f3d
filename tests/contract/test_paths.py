"""First words of the services' paths: the table has those of the apps."""

import pytest

from slipstream.chassis.access.guard import routes_of
from slipstream.contracts.services import PATHS, SERVICES
from slipstream_cli.commands.openapi import app_of


@pytest.mark.parametrize("service", SERVICES)
def test_every_first_word_stands_in_the_table(service: str) -> None:
    paths = (route.path.split("/") for route in routes_of(app_of(service)))
    # Segment's short names of one letter are for its library alone.
    words = {path[2] for path in paths if path[1] == "v1" and len(path[2]) > 1}
    assert sorted(words) == PATHS[service].split()
