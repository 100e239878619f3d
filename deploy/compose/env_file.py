"""Write an .env file with random secrets for docker-compose.yml: `make env`.

Usage: env_file.py PATH. A file that is there stays as it is.
"""

import os
import secrets
import sys
from pathlib import Path

TEMPLATE = """\
# Secrets of this machine's stack, for docker-compose.yml. Other settings: .env.example.
# Key that shops send events with, as name:key.
SLIPSTREAM_INGESTION__WRITE_KEYS=shop:{write_key}
# Bearer token of every API but ingestion's.
SLIPSTREAM_HTTP__API_TOKEN={api_token}
# Signs the tokens that services send one another.
SLIPSTREAM_ACCESS__TOKEN_SECRET={token_secret}
# Used when the database's volume is first made; a volume that is there keeps its password.
POSTGRES_PASSWORD={password}
"""


def write_env_file(path: Path) -> bool:
    """Write the file, readable for its owner alone, unless it exists; whether it was written."""
    names = ("write_key", "api_token", "token_secret", "password")
    # Hexadecimal: the password stands in a URL, and Compose replaces dollar signs.
    text = TEMPLATE.format_map({name: secrets.token_hex(24) for name in names})
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return False
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    return True


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    target = Path(sys.argv[1])
    written = write_env_file(target)
    print(f"{target} has new secrets" if written else f"{target} is there and stays as it is")
