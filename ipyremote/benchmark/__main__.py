"""Entry point of `python -m ipyremote.benchmark`."""

import signal
import sys
from typing import NoReturn

from ipyremote.benchmark.arguments import main


def _leave(number: int, frame: object) -> NoReturn:
    """Exit with an exception, so that the `finally` blocks end the running engine too."""
    sys.exit(128 + number)


if __name__ == "__main__":
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _leave)
    sys.exit(main())
