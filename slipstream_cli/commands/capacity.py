"""`slipstream capacity`: sizes and cost of a stack for a number of visitors."""

import click

_rate = click.FloatRange(min=0, min_open=True)


@click.command(short_help="Size a stack for a number of daily visitors, and say what it costs.")
@click.option(
    "--daily-visitors",
    type=click.IntRange(1),
    multiple=True,
    default=(1_000, 100_000, 10_000_000),
    show_default="1,000, 100,000 and 10,000,000",
    help="Visitors of a day; may be given several times.",
)
@click.option("--events", type=_rate, default=20, show_default=True, help="Events of a visitor.")
@click.option("--lists", type=_rate, default=10, show_default=True, help="Lists for a visitor.")
@click.option(
    "--known",
    type=_rate,
    default=10,
    show_default=True,
    help="Visitors of 90 days for each visitor of a day.",
)
@click.option("--items", type=click.IntRange(1), default=100_000, show_default=True, help="Items.")
@click.option("--peak", type=_rate, default=4, show_default=True, help="Peak over the mean load.")
@click.option(
    "--core-hour",
    type=_rate,
    default=0.04,
    show_default=True,
    help="USD per core-hour.",
)
@click.option(
    "--gb-hour", type=_rate, default=0.005, show_default=True, help="USD per GB-hour of memory."
)
def capacity(
    daily_visitors: tuple[int, ...],
    events: float,
    lists: float,
    known: float,
    items: int,
    peak: float,
    core_hour: float,
    gb_hour: float,
) -> None:
    """Size each part of a stack by measured figures, and add its price up.

    `docs/capacity.md` has the formulas, and the command that measures each figure on your machines.

    \b
    Example:  slipstream capacity
              slipstream capacity --daily-visitors 50000 --events 8 --lists 3
    """
    from slipstream_cli.capacity import Prices, Shop, table

    prices = Prices(core_hour, gb_hour)
    for number in daily_visitors:
        shop = Shop(number, events, lists, known, items, peak)
        click.echo(table(shop, prices))
