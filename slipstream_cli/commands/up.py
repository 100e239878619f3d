"""`slipstream up`: run all services and servers on this machine."""

from pathlib import Path

import click

from slipstream_cli.options import any_ports, data_dir, option_of, plan_of, ports


@click.command(short_help="Run all services and servers on this machine.")
@data_dir
@ports
@any_ports
def up(data_dir: Path, ports: tuple[str, ...], any_ports: bool) -> None:
    """Run all services and their servers on this machine, until Ctrl-C.

    Kafka, Redis and the database are embedded, unless SLIPSTREAM_KAFKA__BOOTSTRAP_SERVERS,
    SLIPSTREAM_REDIS__URL or SLIPSTREAM_DATABASE__URL names one. The data folder is kept, and the
    next start continues from it.

    \b
    Example:  slipstream up --port serving=9004
    """
    from slipstream_cli.local.supervisor import ForegroundStack
    from slipstream_cli.local.terminal import Terminal

    terminal = Terminal()
    plan = plan_of(data_dir, ports, any_ports)
    with ForegroundStack(plan, terminal, endless=True) as stack:
        stack.start()
        for name, url in plan.urls.items():
            terminal.show(f"{name:<11} {url}/{'docs' if name != 'monitoring' else ''}")
        for name, address in plan.servers.items():
            terminal.show(f"{name:<11} {address}")
        terminal.show(f"\n{plan.page}   (services, alerts, clicks, training runs)")
        terminal.show(
            f"Write key: {plan.write_key}    Logs: {plan.directory / 'logs'}"
            "    Ctrl-C stops everything."
        )
        terminal.show(
            f"Next: slipstream import ORDERS PRODUCTS{option_of(data_dir)}   (in a second terminal)"
        )
        stack.wait()
