"""Errors of the servers that a service depends on: the broker, the stores, the database."""


class DependencyUnavailableError(Exception):
    """A server that the service needs does not answer now; the same call may succeed later.

    Adapters derive their own errors from this one. The text is one line that names the server.
    `dependency` is the server's name in readiness.
    """

    dependency = "dependency"


class RefusedSettingsError(Exception):
    """A server answers, and refuses this service's settings.

    Trying again can't help, so the process ends with this text.
    """


class StandbyError(DependencyUnavailableError):
    """Another instance of this service acts, and this one stands by. That is no failure."""
