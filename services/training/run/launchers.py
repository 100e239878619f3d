"""Choice of the launcher by the settings."""

from services.training.run.exchange import open_exchange
from services.training.run.kubernetes_jobs import open_jobs
from services.training.run.launcher import Launcher
from services.training.run.process import ProcessLauncher
from services.training.run.remote import ExternalStarter, RemoteLauncher
from services.training.settings import TrainingSettings


def launcher_of(settings: TrainingSettings) -> Launcher:
    """The launcher that the settings name.

    Raises RefusedSettingsError where it is Kubernetes and this process is in no pod.
    """
    section = settings.training
    if section.launcher == "process":
        return ProcessLauncher(settings.log)
    starter = (
        open_jobs(section.job_template, section.run_timeout_s)
        if section.launcher == "kubernetes"
        else ExternalStarter()
    )
    return RemoteLauncher(open_exchange(settings), starter)
