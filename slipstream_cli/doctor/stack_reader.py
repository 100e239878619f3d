"""Readers of a stack's parts: disks, tables, Redis' memory, dead letters, rules of placements."""

import shutil
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from slipstream.chassis.settings import DatabaseSettings, KafkaSettings
from slipstream.filters.conditions import depends_on_visitor
from slipstream.filters.expressions import FilterError, parsed
from slipstream.stores.metadata import engine, refuse_absent
from slipstream.stores.migrations import Migrations, unapplied
from slipstream_cli.dead_letters.letters import stored_letters
from slipstream_cli.doctor.catalogue_checks import RuleFilter
from slipstream_cli.doctor.limits import Limits
from slipstream_cli.doctor.stack_checks import DiskFigures, LetterFigures

# Rules of placements that are looked at.
_MOST_RULES = 100


def read_disks(folders: Iterable[Path]) -> list[DiskFigures]:
    """Return the disks of these folders, each disk once."""
    disks = {folder.stat().st_dev: folder for folder in reversed(list(folders))}
    found = []
    for folder in disks.values():
        usage = shutil.disk_usage(folder)
        # What only root may use is not free for the services.
        found.append(DiskFigures(str(folder), usage.used, usage.used + usage.free))
    return found


def read_tables(
    settings: DatabaseSettings, migrations: Mapping[str, Migrations]
) -> dict[str, list[str]]:
    """Return the revisions that the tables of each service lack, by service.

    Raises:
        DatabaseUnavailableError: The database does not answer, or is not there.
    """
    refuse_absent(settings)
    database = engine(settings)
    try:
        return {service: unapplied(database, each) for service, each in migrations.items()}
    finally:
        database.dispose()


def read_dead_letters(kafka: KafkaSettings, namespace: str, limits: Limits) -> LetterFigures:
    """Count the dead letters of the topic by code, within the limits.

    Raises:
        BrokerUnavailableError: The broker does not answer.
    """
    codes, all_read = Counter[str](), True
    until = time.monotonic() + limits.seconds
    letters = stored_letters(kafka, namespace)
    for letter in islice(letters, limits.letters + 1):
        if codes.total() >= limits.letters or time.monotonic() > until:
            all_read = False
            break
        codes[letter.record.code] += 1
    letters.close()
    return LetterFigures(codes, all_read)


def rule_filters(placements: Sequence[Mapping[str, Any]]) -> list[RuleFilter]:
    """Return the filters of rules that are switched on and alike for all visitors.

    Args:
        placements: Placements as monitoring answers them. Up to 100 rules are taken.
    """
    found = []
    for placement in placements:
        for rule in placement["policy"]["rules"]:
            text = rule.get("filter", "")
            if not (text and rule.get("enabled", True)):
                continue
            try:
                condition = parsed(text)
            except FilterError:
                continue  # of a newer version
            if not depends_on_visitor(condition):
                found.append(RuleFilter(placement["name"], rule["name"], text, condition))
    return found[:_MOST_RULES]
