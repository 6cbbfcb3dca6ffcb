"""The command's first lines: `discreet`, or `python -m proxy`."""

from __future__ import annotations

import signal
import sys
from types import FrameType


def main() -> None:
    """Run the command."""
    # A container's first process ignores SIGTERM until somebody handles it, and reading the
    # program takes a second: told to stop in that time, it would serve on until it is killed.
    signal.signal(signal.SIGTERM, _stop)

    from proxy.cli import app

    app(prog_name="discreet")


def _stop(number: int, frame: FrameType | None) -> None:
    del frame
    sys.exit(128 + number)


if __name__ == "__main__":
    main()
