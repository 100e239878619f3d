"""Rows of erased visitors are deleted once everything from before the cut is committed."""

from unittest.mock import Mock, create_autospec

import pytest

from services.monitoring.people.repository import ErasureLedger, RowDeletion
from slipstream.contracts.late_records import MARKED_MS
from slipstream.stores.lease import LeaseLostError

NOW = 1_790_000_000_000


def ledger_of(**cuts: int) -> Mock:
    """A ledger of erasures that wait, each for an offset of one partition."""
    ledger: Mock = create_autospec(ErasureLedger, instance=True)
    ledger.waiting.return_value = {name: {"t": {"a:0": end}} for name, end in cuts.items()}
    ledger.delete_rows.return_value = 1
    return ledger


def test_rows_go_once_the_cut_is_committed_and_old_marks_in_any_case() -> None:
    ledger = ledger_of(due=5, early=6)
    RowDeletion(ledger, lambda: {"a:0": 5}, lambda: NOW, lambda: None).step()
    ledger.delete_rows.assert_called_once_with(["due"], NOW)
    idle = ledger_of(early=6)
    RowDeletion(idle, lambda: {"a:0": 5}, lambda: NOW, lambda: None).step()
    idle.delete_rows.assert_not_called()
    for each in (ledger, idle):
        each.overwrite.assert_called_once_with(NOW)
        each.forget_marks.assert_called_once_with(NOW - MARKED_MS)


def test_an_instance_without_the_lease_deletes_nothing() -> None:
    ledger = ledger_of(due=5)
    renew = Mock(side_effect=LeaseLostError("another instance has it"))
    with pytest.raises(LeaseLostError):
        RowDeletion(ledger, lambda: {"a:0": 5}, lambda: NOW, renew).step()
    ledger.delete_rows.assert_not_called()
