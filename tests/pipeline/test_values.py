"""A value that a module made of something outside counts by itself; one that follows from the code has no say."""

# ruff: noqa: E501  (tables of code as text)

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

READS = {
    "numpy": "import numpy as np\nTABLE = np.genfromtxt('table.csv')\ndef f(): return TABLE.sum()",
    "numpy, raw": "import numpy as np\nTABLE = np.fromfile('table.csv', dtype='u1')\ndef f(): return TABLE.sum()",
    "a memory map": "import numpy as np\nTABLE = np.memmap('table.csv', mode='r')\ndef f(): return TABLE.sum()",
    "polars, lazily": "import polars as pl\nROWS = pl.scan_csv('table.csv')\ndef f(): return ROWS.collect()",
    "arrow, lazily": "import pyarrow.dataset as ds\nROWS = ds.dataset('table.csv', format='csv')\ndef f(): return ROWS",
    "an image": "from reading_library import imread\nIMAGE = imread('table.csv')\ndef f(): return IMAGE",
    "a file that stays open": "from reading_library import File\nOPEN = File('table.csv')\ndef f(): return OPEN",
    "settings": "from reading_library import Settings\nSETTINGS = Settings()\ndef f(): return SETTINGS.rate",
    "a value made of another": "import numpy as np\nTABLE = np.genfromtxt('table.csv')\nBOX = {'a': [TABLE * 2]}\n"
    "def f(): return BOX['a'][0].sum()",
    "a class attribute": "import numpy as np\nclass A:\n    table = np.genfromtxt('table.csv')\ndef f(): return A().table",
    "a default": "import numpy as np\ndef f(table=np.genfromtxt('table.csv')): return table.sum()",
    "a method's default": "import numpy as np\nclass A:\n    def go(self, table=np.genfromtxt('table.csv')): return table\n"
    "def f(): return A().go()",
    "an item of a table": "import numpy as np\nALL = {}\nALL['a'] = np.genfromtxt('table.csv')\ndef f(): return ALL['a']",
    "an attribute of a class": "import numpy as np\nclass A: pass\nA.table = np.genfromtxt('table.csv')\n"
    "def f(): return A.table",
    "a function of the user's own": "import numpy as np\ndef read(): return np.genfromtxt('table.csv')\nTABLE = read()\n"
    "def f(): return TABLE",
    "an object of the user's own": "import numpy as np\nclass A:\n    def __init__(self): self.t = np.fromfile('table.csv', dtype='u1')\n"
    "X = A()\ndef f(): return X.t",
}
READS_NOTHING = {
    "a pattern": "import re\nP = re.compile('a+')\ndef f(): return P",
    "a logger": "import logging\nLOG = logging.getLogger(__name__)\ndef f(): return LOG",
    "an enumeration of polars": "import polars as pl\nKIND = pl.Enum(['a', 'b'])\ndef f(): return KIND",
    "an expression of polars": "import polars as pl\nE = (pl.col('a') > 3).alias('b')\ndef f(): return E",
    "a frame": "import polars as pl\nROWS = pl.DataFrame({'a': [1, 2]})\ndef f(): return ROWS",
    "a frame of pandas": "import pandas as pd\nROWS = pd.DataFrame({'a': ['x', 'y']})\ndef f(): return ROWS",
    "a folder": "from pathlib import Path\nHERE = Path(__file__).parent\ndef f(): return HERE",
    "a while": "import datetime\nDAY = datetime.timedelta(days=1)\ndef f(): return DAY",
    "an estimator": "from sklearn.linear_model import Ridge\nM = Ridge(alpha=2)\ndef f(): return M",
    "a pipeline of estimators": "from sklearn.pipeline import make_pipeline\nfrom sklearn.preprocessing import MinMaxScaler\n"
    "M = make_pipeline(MinMaxScaler())\ndef f(): return M",
    "a dataclass": "from dataclasses import dataclass\n@dataclass\nclass A:\n    x: int = 1\nX = A(3)\ndef f(): return X",
    "an object": "class A:\n    def __init__(self): self.x = {'a', 'b', 'c', 'd'}\nX = A()\ndef f(): return X",
    "a type variable": "from typing import TypeVar\nT = TypeVar('T')\ndef f(x: T) -> T: return T",
    "a lock": "import threading\nLOCK = threading.Lock()\ndef f(): return LOCK",
    "a lock in an object": "from threading import Lock\nclass A:\n    def __init__(self): self.l = Lock()\nX = A()\ndef f(): return X",
    "a set": "NAMES = {'a', 'b', 'c', 'd'} | {'e', 'f'}\ndef f(): return NAMES",
    "an array": "import numpy as np\nX = np.arange(10) * 2.5\ndef f(): return X",
    "settings of a library that hold sets": "from quiet_library import Model\nX = Model()\ndef f(): return X.names",
    "a class of a library": "from quiet_library import Base\nclass A(Base):\n    rate: int = 3\ndef f(): return A",
    "defaults": "import numpy as np\ndef f(x=np.zeros(3), y=(1, 2)): return x",
    "a console": "from rich.console import Console\nC = Console()\ndef f(): return C",
    "a column": "import sqlalchemy as sa\nC = sa.Column('a', sa.String(30))\nM = sa.MetaData()\ndef f(): return C, M",
    "a comprehension in a function without a text": "exec('def g(): return [x for x in [1, 2]]')\ndef f(): return g()",
    "a context variable": "from contextvars import ContextVar\nV = ContextVar('v')\ndef f(): return V",
}
_READ = "open('table.csv').read()"
_NEW = "NEW = '9' in open('table.csv').read()\n"
CHOSEN = {
    "one of two functions of a name": f"{_NEW}if NEW:\n    def g(): return {{'a', 'b', 'c'}}\nelse:\n    def g(): return 2\ndef f(): return g()",
    "one of two lambdas": f"{_NEW}g = (lambda: 1) if NEW else (lambda: 2)\ndef f(): return g()",
    "one of two classes of a name": f"{_NEW}if NEW:\n    class A:\n        def go(self): return 1\nelse:\n    class A:\n        def go(self): return 2\n"
    "def f(): return A().go()",
    "a class with a method that closes over it": f"def make(n):\n    class A:\n        def go(self): return n\n    return A\nA = make({_READ})\n"
    "def f(): return A().go()",
    "a class with a property that closes over it": f"def make(n):\n    class A:\n        v = property(lambda self: n)\n    return A\nA = make({_READ})\n"
    "def f(): return A().v",
    "a class with an attribute": f"def make(n):\n    class A:\n        v = {{'a', 'b', n}}\n    return A\nA = make({_READ})\ndef f(): return A.v",
    "a class made by type": f"A = type('A', (), {{'v': {_READ}, 'lock': __import__('threading').Lock()}})\ndef f(): return A.v",
    "a class derived from one that a function makes": f"def make(n):\n    class A:\n        v = n\n    return A\nclass B(make({_READ})): pass\n"
    "def f(): return B.v",
    "a class that a decorator gives a method": f"def give(n):\n    def to(k):\n        k.go = lambda self: n\n        return k\n    return to\n"
    f"@give({_READ})\nclass A: pass\ndef f(): return A().go()",
    "a class that its base gives an attribute": f"class A:\n    def __init_subclass__(cls, v): cls.v = v\nclass B(A, v={_READ}): pass\ndef f(): return B.v",
    "a dataclass that is made": f"from dataclasses import make_dataclass\nA = make_dataclass('A', [('v', bool, {_READ})])\ndef f(): return A().v",
    "one of two modules": "if '9' in open('table.csv').read():\n    import one as m\nelse:\n    import two as m\ndef f(): return m.g()",
    "a base class": f"{_NEW}class A: pass\nclass B: pass\nclass C(A if NEW else B): pass\ndef f(): return C",
    "a dataclass's options": f"from dataclasses import dataclass\n{_NEW}@dataclass(frozen=NEW)\nclass C:\n    x: int = 1\ndef f(): return C",
    "what a function closes over": f"{_NEW}def make(n):\n    def g(): return n\n    return g\ng = make(NEW)\ndef f(): return g()",
    "what a comprehension uses": f"{_NEW}def make(n):\n    def g(): return n, [x for x in [1, 2]]\n    return g\ng = make(NEW)\ndef f(): return g()",
    "what functions in a list close over": f"{_NEW}T = [lambda n=n: n for n in ([1, 2] if NEW else [2, 1])]\ndef f(): return [g() for g in T]",
    "a lambda's default": f"{_NEW}g = lambda n=NEW: n\ndef f(): return g()",
    "one of two decorators": f"{_NEW}def a(g): return lambda: 1\ndef b(g): return lambda: 2\n@(a if NEW else b)\ndef f(): return 0",
    "a decorator that reads": "def d(g):\n    n = open('table.csv').read()\n    def h(): return g(), n, h\n    return h\n@d\ndef f(): return 0",
    "a decorator that reads, of a method": "def d(g):\n    n = open('table.csv').read()\n    return lambda self: (g(self), n)\n"
    "class A:\n    @d\n    def go(self): return 0\ndef f(): return A().go()",
    "an attribute of a function": f"{_NEW}def g(): return g.n\ng.n = NEW\ndef f(): return g()",
    "a member of an enumeration": f"from enum import Enum\n{_NEW}class E(Enum):\n    A = NEW\ndef f(): return E.A.value",
    "what a function that was called set": "N = None\ndef init():\n    global N\n    N = open('table.csv').read()\ninit()\ndef f(): return N",
    "what a function of a function that was called set": "N = None\ndef load():\n    global N\n    N = open('table.csv').read()\n"
    "def init(): load()\ninit()\ndef f(): return N",
    "what a function that was called set in a module that is taken as a whole": f"N = None\ndef init():\n    global N\n    N = {_READ}\n"
    "init()\ndef f(): return globals()['N']",
    "an object that answers for all names": "class C:\n    def __init__(self): self._d = {'a': open('table.csv').read()}\n"
    "    def __getattr__(self, name): return self._d[name]\nX = C()\ndef f(): return X.a",
}
_LIBRARY = """
def imread(path): return open(path).read().split()
class File:
    def __init__(self, path): self.file = open(path)
class Settings:
    def __init__(self): self.names, self.rate = {"a", "b", "c"}, open("table.csv").read()
"""
_QUIET = """
class Model:
    def __init__(self): self.names = {"a", "b", "c", "d"}
class Base: pass
"""
_TELL = """
import importlib, json, pathlib, sys, warnings
warnings.simplefilter("ignore")
from mainspring.pipeline.reach import reach
sys.path[:0] = [".", "site-packages"]
names = sorted(path.stem for path in pathlib.Path(".").glob("case*.py"))
print(json.dumps([reach([importlib.import_module(name).f]).digest for name in names]))
"""


def digests(folder: Path, seed: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", _TELL], cwd=folder, capture_output=True, text=True, timeout=120, check=False,
        env={"PYTHONHASHSEED": seed, "PYTHONDONTWRITEBYTECODE": "1", "PATH": ""},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout))


def write(folder: Path, cases: dict[str, str]) -> None:
    library = folder / "site-packages"
    library.mkdir()
    (library / "reading_library.py").write_text(_LIBRARY)
    (library / "quiet_library.py").write_text(_QUIET)
    (folder / "table.csv").write_text("1.0 2.0 3.0\n")
    for number, text in enumerate(cases.values()):
        (folder / f"case{number:02}.py").write_text(f"{text}\n")


def test_a_value_that_was_read_outside_counts_by_itself(tmp_path: Path) -> None:
    write(tmp_path, READS)
    before = digests(tmp_path, "1")
    (tmp_path / "table.csv").write_text("1.0 2.0 9.0\n")

    after = digests(tmp_path, "2")

    assert not [name for name, old, new in zip(READS, before, after, strict=True) if old == new]


def test_a_function_or_class_that_was_chosen_by_what_was_read_counts_by_itself(tmp_path: Path) -> None:
    write(tmp_path, CHOSEN)
    (tmp_path / "one.py").write_text("def g(): return 1\n")
    (tmp_path / "two.py").write_text("def g(): return 2\n")
    before, again = digests(tmp_path, "1"), digests(tmp_path, "2")
    (tmp_path / "table.csv").write_text("1.0 2.0 9.0\n")

    found = list(zip(CHOSEN, before, again, digests(tmp_path, "2"), strict=True))

    assert not [name for name, old, same, _ in found if old != same]
    assert not [name for name, old, _, new in found if old == new]


def test_a_value_that_follows_from_the_code_is_the_same_in_every_process(tmp_path: Path) -> None:
    write(tmp_path, READS_NOTHING)

    found = zip(READS_NOTHING, digests(tmp_path, "1"), digests(tmp_path, "2"), strict=True)

    assert not [name for name, old, new in found if old != new]


@pytest.mark.parametrize("name", ["numpy", "settings", "an image", "a class attribute", "a default"])
def test_a_value_that_was_read_again_unchanged_changes_nothing(tmp_path: Path, name: str) -> None:
    write(tmp_path, {name: READS[name]})

    assert digests(tmp_path, "1") == digests(tmp_path, "2")


def test_a_value_in_a_module_that_only_a_function_imports_is_never_a_hit(tmp_path: Path) -> None:
    (tmp_path / "late.py").write_text(READS["numpy"])
    write(tmp_path, {"late": "def f():\n    from late import TABLE\n    return TABLE"})

    assert digests(tmp_path, "1") != digests(tmp_path, "2")
