"""Start-up: `mainspring --help` and `import mainspring` over an empty interpreter."""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.timing import line, seconds


def main() -> None:
    tool = str(Path(sys.executable).parent / "mainspring")
    commands = {
        "pass": [sys.executable, "-c", "pass"],
        "import": [sys.executable, "-c", "import mainspring"],
        "help": [tool, "--help"],
    }
    found = seconds(commands, runs=15)
    line("python -c pass", found["pass"], "s", "(floor)")
    line("import mainspring", found["import"], "s", "<= 0.1 s")
    line("mainspring --help", found["help"], "s", "<= 0.12 s")
