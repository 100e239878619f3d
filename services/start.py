"""Commands that start a service with the settings in its environment."""

import importlib
import json
import os
import signal
import sys
from functools import partial
from typing import Literal

import click

from slipstream.contracts.services import SERVICES

_KAFKA = "SLIPSTREAM_KAFKA__BOOTSTRAP_SERVERS=kafka:9092"
_REDIS = "SLIPSTREAM_REDIS__URL=redis://redis:6379/0"
_DATABASE = "SLIPSTREAM_DATABASE__URL=postgresql+psycopg://user:password@db/slipstream"
_LAKE = "SLIPSTREAM_LAKE__URI=s3://history/lake"
_SERVERS = {
    "ingestion": (_KAFKA, _REDIS, "SLIPSTREAM_INGESTION__WRITE_KEYS=shop:s3cret"),
    "features": (_KAFKA, _REDIS, _LAKE),
    "training": (_KAFKA, _DATABASE, _LAKE),
    "serving": (_KAFKA, _REDIS),
    "monitoring": (_KAFKA, _DATABASE, _LAKE),
}


def needed_settings(name: str) -> tuple[str, ...]:
    """List the settings, as `VARIABLE=value`, that a service needs in a cluster.

    Their defaults name this machine.
    """
    peers = (
        f"SLIPSTREAM_PEERS__{peer.upper()}_URL=http://{peer}:{SERVICES[peer].port}"
        for peer in SERVICES[name].peers
    )
    return (*_SERVERS[name], *peers)


def start_services() -> None:
    """Run the command line `python -m services NAME`, by which images start a service."""
    prepare_torch()
    keep_files_private()
    group = click.Group(
        "services", help="Start one service of Slipstream, with the settings in its environment."
    )
    for name in SERVICES:
        group.add_command(service_command(name))
    group.add_command(training_run)
    group.add_command(_migrate)
    group(prog_name="python -m services")


@click.command("migrate", short_help="Migrates the tables of training and monitoring, and ends.")
@click.option(
    "--patience",
    type=click.FloatRange(min=0),
    default=120.0,
    show_default=True,
    help="Seconds to wait for a database that does not answer.",
)
def _migrate(patience: float) -> None:
    """Bring the tables of training and monitoring to their newest revisions, and end.

    Reads SLIPSTREAM_DATABASE__URL. The images of training and monitoring have what it needs.
    """
    from services.migrate import run_migrations

    run_migrations(patience)


def prepare_torch() -> None:
    """Set what torch reads from the environment, here and in child processes, unless it is set.

    OpenMP's waiting threads sleep. By default they spin: a training step then takes 3.3 s instead
    of 0.09 s where other processes, such as serving, share the processors.

    Prepared operations are kept for 64 shapes of tensors. By default it is a thousand, twice, and
    the batches of a training have ever new shapes: that took 1.84 GB instead of 0.99 in a fit of
    61,000 events, to be 3 % faster.
    """
    for name in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
        os.environ.setdefault(name, "64")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def keep_files_private() -> None:
    """Have this process and its children make files that only their user may read.

    Lake, databases, models and logs tell of visitors.
    """
    os.umask(0o077)


def service_command(name: str) -> click.Command:
    """Build the command that starts one service of `SERVICES`."""
    purpose = SERVICES[name].purpose

    def run() -> None:
        app_module = importlib.import_module(f"services.{name}.app")
        settings_module = importlib.import_module(f"services.{name}.settings")
        from pydantic import ValidationError

        from slipstream.chassis.access.tokens import TokenKeysError
        from slipstream.chassis.access.verifier import ExposedError
        from slipstream.chassis.logging import configure_logging
        from slipstream.chassis.processes import serve_in_processes
        from slipstream.chassis.server import serve
        from slipstream.chassis.settings import wrong_settings

        try:
            settings = getattr(settings_module, f"{name.capitalize()}Settings")()
        except ValidationError as error:
            raise click.ClickException(wrong_settings(error)) from error
        configure_logging(settings.log, name)
        try:
            app = app_module.create_app(settings)
        except (ExposedError, TokenKeysError) as error:
            raise click.ClickException(f"settings: {error}") from error
        count = getattr(getattr(settings, name, None), "workers", 1)
        if count == 1:
            serve(app, settings, name)
        else:
            create_app = partial(app_module.create_app, settings)
            load_ahead = getattr(app_module, "load_ahead", None)
            serve_in_processes(create_app, settings, name, count, load_ahead)

    example = " \\\n          ".join((*needed_settings(name), f"slipstream {name}"))
    return click.Command(
        name,
        callback=run,
        help=f"""{purpose}

        Starts this service alone, on the servers that its settings name (docs/configuration.md).
        Logs are JSON lines on standard output.

        \b
        Example:
          {example}
        Port:
          SLIPSTREAM_HTTP__PORT
        """,
        short_help=purpose,
    )


@click.command("training-run", short_help="Computes one training run that waits, and ends.")
@click.option(
    "--job",
    "uri",
    metavar="URI",
    help="Files of the run, a folder or s3://…; the oldest run that waits in the exchange if it is "
    "left out.",
)
@click.option(
    "--processes",
    envvar="PET_NPROC_PER_NODE",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Processes on this machine that train the network together. Those of other machines join "
    "by torchrun's variables, such as PET_NNODES.",
)
@click.option(
    "--self-check",
    "checking",
    is_flag=True,
    help="Fit a small network on known data instead, print the device as JSON, and end.",
)
@click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "gpu"]),
    default="auto",
    show_default=True,
    help="Device: a GPU where torch sees one (auto), or this one only. A run's job demands a GPU "
    "by itself.",
)
def training_run(
    uri: str | None, processes: int, checking: bool, device: Literal["auto", "cpu", "gpu"]
) -> None:
    """Computes one training run that training has left in its exchange, and ends.

    It needs no server but the lake and the exchange. Training takes the result from there, judges
    it, and promotes or refuses the model. Killed at any moment and started again, it goes on after
    its last checkpoint.

    Status 0: the run has a result, or none waits. 3: it failed, and would fail again. Any other:
    start it again.

    \b
    Example:
      SLIPSTREAM_LAKE__URI=s3://history/lake \\
      SLIPSTREAM_TRAINING__EXCHANGE=s3://history/exchange \\
      SLIPSTREAM_LAKE__STORAGE_OPTIONS='{"AWS_REGION": "eu-central-1"}' \\
      python -m services training-run
      python -m services training-run --self-check --device gpu
    """
    if device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    if checking:
        _check_installation(device)
        return
    in_group = "TORCHELASTIC_RUN_ID" in os.environ
    if not in_group and (processes > 1 or "PET_NNODES" in os.environ):
        from slipstream.models.distributed import start_group

        job = ["--job", uri] if uri else []
        sys.exit(start_group("services", ["training-run", *job], processes))
    if in_group and os.environ["RANK"] != "0":  # the first process has the run
        from slipstream.models.distributed import led

        with led():
            return
    # The run takes it when its modules are loaded. Process 1 of a container would lose it.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    from pydantic import ValidationError

    from services.training.run.worker import main
    from services.training.settings import TrainingSettings
    from slipstream.chassis.settings import wrong_settings

    try:
        settings = TrainingSettings()
    except ValidationError as error:
        raise click.ClickException(wrong_settings(error)) from error
    from slipstream.models.distributed import led

    with led():
        status = main(settings, uri)
    sys.exit(status)


def _check_installation(device: Literal["auto", "cpu", "gpu"]) -> None:
    from services.training.run.device import DeviceError, choose_device
    from services.training.run.self_check import SelfCheckError, self_check

    try:
        if device != "auto":  # a GPU where there is one, without a warning where there is none
            choose_device(device)
        click.echo(json.dumps(self_check()))
    except (DeviceError, SelfCheckError) as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(3)
