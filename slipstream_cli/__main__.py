"""The `slipstream` command. Commands import heavy libraries only when they run."""

import sys
from typing import NoReturn

import click

from services.start import keep_files_private, prepare_torch, service_command
from slipstream.contracts.services import SERVICES
from slipstream_cli.commands.alert_rules import alert_rules
from slipstream_cli.commands.answers import answers
from slipstream_cli.commands.backfill import backfill
from slipstream_cli.commands.backup import backup
from slipstream_cli.commands.batch_recommend import batch_recommend
from slipstream_cli.commands.bench import bench_command
from slipstream_cli.commands.dead_letters import dead_letters
from slipstream_cli.commands.demo import demo
from slipstream_cli.commands.doctor import doctor
from slipstream_cli.commands.evaluate import evaluate
from slipstream_cli.commands.experiments import experiments
from slipstream_cli.commands.import_files import import_files
from slipstream_cli.commands.keys import keys
from slipstream_cli.commands.models import models
from slipstream_cli.commands.openapi import openapi
from slipstream_cli.commands.placements import placements
from slipstream_cli.commands.price import price
from slipstream_cli.commands.replay import replay
from slipstream_cli.commands.restore import restore
from slipstream_cli.commands.runs import runs
from slipstream_cli.commands.simulate import simulate
from slipstream_cli.commands.up import up
from slipstream_cli.local.processes import INTERRUPTED

# In the order of the help: first steps, services, data and models, tools.
COMMANDS = (
    demo,
    up,
    *map(service_command, SERVICES),
    import_files,
    replay,
    runs,
    models,
    placements,
    experiments,
    alert_rules,
    answers,
    price,
    keys,
    doctor,
    dead_letters,
    backfill,
    backup,
    restore,
    batch_recommend,
    simulate,
    evaluate,
    bench_command(),
    openapi,
)


class OrderedGroup(click.Group):
    """A group that lists its commands in the order in which they were added."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(self.commands)


@click.group(
    cls=OrderedGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(package_name="slipstream")
def cli() -> None:
    """Real-time recommendations: a click changes the next answer.

    \b
    Start here:       slipstream demo
    Your own data:    slipstream up
                      slipstream import orders.csv items.csv  (second terminal)
    """


for _command in COMMANDS:
    cli.add_command(_command)


def main() -> NoReturn:
    """Run the command line; the `slipstream` script calls this."""
    prepare_torch()
    keep_files_private()
    try:
        cli(standalone_mode=True)
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None
    sys.exit(0)


if __name__ == "__main__":
    main()
