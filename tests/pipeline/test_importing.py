"""What a module reads outside as it is imported is noticed; what its functions read later isn't held against it."""
# ruff: noqa: E501  (tables of code as text)

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from mainspring.pipeline.codebase import Codebase
from mainspring.pipeline.importing import outside

READS = {
    "the environment": "import os\nRATE = float(os.environ.get('RATE', 1))",
    "the environment, by another name": "from os import environ as e\nRATE = e['RATE']",
    "the clock": "import datetime\nNOW = datetime.datetime.now()",
    "chance": "from random import random\nSEED = random()",
    "a file": "LENGTH = len(open('cities.csv').read())",
    "the platform": "import sys\nif sys.platform == 'win32':\n    RATE = 2",
    "a path": "from pathlib import Path\nTEXT = Path('cities.csv').read_text()",
    "a file, in a function that is called": "def length():\n    return len(open('a').read())\nLENGTH = length()",
    "a file, in a function that is passed on": "def length(x):\n    return open(x).read()\nALL = list(map(length, 'ab'))",
    "a file, in a function out of a list": "def f():\n    return open('a')\nALL = [f]\nX = ALL[0]()\nfor g in ALL:\n    g()",
    "a file, in a class body": "class Rules:\n    text = open('a').read()",
    "a file, in a decorator": "def d(f):\n    open('a')\n    return f\n@d\ndef g(x):\n    return x",
    "a file, in a base class": "class B:\n    def __init_subclass__(cls):\n        open('a')\nclass C(B):\n    pass",
    "a default": "import time\ndef f(x=time.time()):\n    return x",
    "a library that may do anything": "import decouple\nRATE = decouple.config('RATE')",
    "a library's value": "from dynaconf import settings\nRATE = settings.RATE",
    "data of scikit-learn": "from sklearn.datasets import load_iris\nIRIS = load_iris()",
    "another module's call": "import other\nVALUE = other.read()",
    "a run": "import mainspring as ms\npipeline = ms.Pipeline('a', [])\npipeline.run()",
}
READS_NOTHING = {
    "steps that read": """
        import mainspring as ms
        import polars as pl
        from pathlib import Path
        def rows(path: str = "a.csv") -> pl.DataFrame:
            return pl.read_csv(path)
        pipeline = ms.Pipeline("a", [rows])
        """,
    "steps in a list": """
        import mainspring as ms
        def rows():
            return open("a").read()
        STEPS = [rows]
        pipeline = ms.Pipeline("a", STEPS)
        """,
    "a loop": """
        import mainspring as ms
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import FunctionTransformer, StandardScaler
        def shifted(frame):
            return open("a")
        MODEL = make_pipeline(FunctionTransformer(shifted), StandardScaler())
        loop = ms.Loop("a", ms.csv("rows.csv"), "y", MODEL, features=[shifted], gate=ms.Gate(at_least=0.5))
        """,
    "code for a script": """
        import mainspring as ms
        if __name__ == "__main__":
            print(open("a").read())
        """,
    "tables and plain calls": """
        import re, math, functools
        from dataclasses import dataclass, field
        @dataclass
        class Rules:
            names: list = field(default_factory=list)
        TABLE = {name: len(name) for name in ("a", "b")}
        PATTERN = re.compile("a+")
        RULES = Rules()
        @functools.lru_cache
        def wide(x):
            return open(x)
        """,
}


def where(folder: Path, text: str) -> str | None:
    (folder / "reading.py").write_text(dedent(text))
    (folder / "other.py").write_text("def read():\n    return open('a').read()\n")
    return outside(Codebase(roots=[folder]), ["reading"])


@pytest.mark.parametrize("what", READS)
def test_what_is_read_outside_is_told_with_its_place(tmp_path: Path, what: str) -> None:
    found = where(tmp_path, READS[what])

    assert found is not None and ".py, line " in found


@pytest.mark.parametrize("what", READS_NOTHING)
def test_a_module_that_reads_nothing_outside_is_known(tmp_path: Path, what: str) -> None:
    assert where(tmp_path, READS_NOTHING[what]) is None
