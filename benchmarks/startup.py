"""Start-up: `mainspring --help` and `import mainspring` over an empty interpreter."""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.timing import row, seconds


def main() -> None:
    tool = str(Path(sys.executable).parent / "mainspring")
    commands = {
        "pass": [sys.executable, "-c", "pass"],
        "import": [sys.executable, "-c", "import mainspring"],
        "help": [tool, "--help"],
    }
    found = seconds(commands, runs=15)
    row("floor: python -c pass", found["pass"], "s")
    row("import mainspring", found["import"], "s", at_most=0.1)
    row("mainspring --help", found["help"], "s", at_most=0.12)
