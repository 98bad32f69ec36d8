"""The process that compacts the records of a home beside `mainspring serve`: `python -m mainspring.loop.compaction HOME
PARENT`, where PARENT is the process with which it ends.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from mainspring.core.errors import MainspringError
from mainspring.serving.worker import die_with
from mainspring.store.history import compact_all
from mainspring.store.home import Home

_NICENESS = 19


def main() -> None:
    """Compact, and give way to whoever answers."""
    home, parent = sys.argv[1:]
    os.nice(_NICENESS)
    die_with(int(parent))
    try:
        compact_all(Home.open(Path(home)))
    except (MainspringError, OSError) as error:  # the records are there and are read as they are
        print(f"mainspring: records can't be compacted: {error}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
