"""Errors of the servers that a service depends on: the broker, the stores, the database."""


class DependencyUnavailableError(Exception):
    """A server that is needed does not answer now. The same call may succeed later, so callers wait
    and try again.

    Adapters derive their own error from this one. The text names the server and is one line, fit
    for a log. `dependency` is how readiness calls it.
    """

    dependency = "dependency"


class RefusedSettingsError(Exception):
    """A server answers and refuses this service's settings. Trying again can't help: the process
    ends with this text.
    """
