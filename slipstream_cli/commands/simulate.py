"""`slipstream simulate`: write the events of a simulated shop."""

from pathlib import Path

import click

_count = click.IntRange(min=1)


@click.command(short_help="Write the events of a simulated shop, of any size.")
@click.argument("folder", metavar="OUT_DIR", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--visitors", type=_count, required=True, help="Number of visitors; each has an event or more."
)
@click.option(
    "--items", type=_count, required=True, help="Number of items; some may have no event."
)
@click.option(
    "--events", type=_count, required=True, help="Number of views, carts and purchases together."
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Seed of the random numbers; the same seed gives the same files.",
)
@click.option(
    "--days", type=_count, default=90, show_default=True, help="Days that the events spread over."
)
@click.option(
    "--impressions",
    is_flag=True,
    help="Also write impressions of the lists that some views came from, in addition to --events.",
)
def simulate(
    folder: Path, visitors: int, items: int, events: int, seed: int, days: int, impressions: bool
) -> None:
    """Write interactions.parquet and items.parquet of a simulated shop to OUT_DIR.

    The files are for load tests, development and comparing models. Popularity is unequal, items
    appear over time, visitors have tastes that drift, visits have an order, and some views lead to
    carts and purchases. Memory does not grow with the number of events.

    \b
    Example:  slipstream simulate shop --visitors 2000 --items 500 --events 30000
              slipstream simulate large --visitors 1000000 --items 100000 --events 10000000 --seed 7
    """
    from slipstream.datasets.simulator import Simulation
    from slipstream.datasets.simulator import simulate as write
    from slipstream_cli.local.terminal import Terminal

    try:
        simulation = Simulation(visitors, items, events, seed, days, impressions=impressions)
        files = write(folder, simulation, Terminal().bar())
    except (ValueError, OSError) as error:
        raise click.ClickException(str(error)) from error
    for event_type, count in files.by_type.items():
        click.echo(f"{event_type:<10} {count:,}")
    click.echo(f"Wrote {files.interactions} and {files.items}.")
    click.echo(
        f"Next: slipstream evaluate {files.interactions} --items {files.items}"
        " --protocol time-split"
    )
    click.echo(
        f"  or, with slipstream up: slipstream replay {files.interactions} --items {files.items}"
    )
