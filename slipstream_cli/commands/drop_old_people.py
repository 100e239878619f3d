"""`slipstream drop-old-people`: a one-time step after the upgrade that made `people.v1`."""

from pathlib import Path

import click

from slipstream_cli.options import data_dir_option
from slipstream_cli.peers import broker_of


@click.command("drop-old-people", short_help="Drop people's old records from catalog.v1.")
@click.option("--dry-run", is_flag=True, help="Count the records, and drop none.")
@data_dir_option("Data folder of the stack with the topic, where the environment names none.")
def drop_old_people(dry_run: bool, data_dir: Path) -> None:
    """Drop people's old records from catalog.v1, once all services have been upgraded.

    Users, links and erasures have been on people.v1 since that topic came. What was sent before
    stays on catalog.v1 for ever, and serving reads it at each start. Once features has applied all
    of it, it is in Redis and in the lake, and can be dropped. The topic is that of the stack that
    runs on the data folder, or of the broker that SLIPSTREAM_KAFKA__BOOTSTRAP_SERVERS names, in
    SLIPSTREAM_NAMESPACE.

    It can be repeated, and services may run meanwhile.

    \b
    Example:  slipstream drop-old-people --dry-run
              slipstream drop-old-people
    """
    from slipstream.broker.kafka import BrokerUnavailableError
    from slipstream_cli import upgrades
    from slipstream_cli.local.terminal import Terminal

    kafka, namespace = broker_of(data_dir)
    try:
        found = upgrades.find_old_people(kafka, namespace, Terminal().bar())
        if found.unapplied:
            raise click.ClickException(
                f"features has not applied {found.unapplied:,} of the records yet, and nothing is "
                "dropped. Once it has caught up (its /v1/status), run this again."
            )
        if found.applied and not dry_run:
            upgrades.drop_old_people(kafka, namespace, Terminal().bar())
    except BrokerUnavailableError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{'would drop' if dry_run else 'dropped'}  {found.applied:,} records of people")
