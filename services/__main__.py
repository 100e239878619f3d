"""Entry point of the images: `python -m services NAME` starts one service."""

import sys

from services.start import start_services

if __name__ == "__main__":
    start_services()
    sys.exit(0)
