"""Records the ids of all REST operations: `python -m tests.contract.record_operations`.

Generated clients call their methods by these ids. Run it after a new route; an id that is there
already stays as it is, or goes with its operation.
"""

from pathlib import Path

from slipstream.contracts.services import SERVICES
from slipstream_cli.commands.openapi import app_of

RECORDED = Path(__file__).parent / "samples" / "operations.txt"


def operations() -> list[str]:
    """A line for each operation of the services' OpenAPI documents: service, id, method, path."""
    return sorted(
        f"{service} {operation['operationId']} {method.upper()} {path}"
        for service in SERVICES
        for path, methods in app_of(service).openapi()["paths"].items()
        for method, operation in methods.items()
    )


if __name__ == "__main__":
    RECORDED.write_text("\n".join(operations()) + "\n")
