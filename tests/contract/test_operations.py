"""Operations of the services' OpenAPI documents, as generators of clients see them."""

import re

from tests.contract.record_operations import RECORDED, operations


def test_each_operation_of_a_service_has_an_id_of_its_own_that_is_a_name() -> None:
    ids = [tuple(line.split()[:2]) for line in operations()]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch("[a-z][a-z_]*[a-z]", name) for _, name in ids)


def test_ids_are_as_recorded() -> None:
    """New routes are recorded by `python -m tests.contract.record_operations`."""
    assert operations() == RECORDED.read_text().splitlines()
