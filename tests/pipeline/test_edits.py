"""Every kind of edit that may change what a function gives changes its digest; every other edit leaves it alone."""
# ruff: noqa: E501  (tables of code as text)

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePath
from textwrap import dedent

import pytest

from mainspring.pipeline.reach import Reach, reach

Files = Mapping[str, str]
Reached = Callable[[Files], Reach]


@pytest.fixture
def reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Reached]:
    """What `features` of main.py reaches in a project of these files, loaded anew."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def found(files: Files) -> Reach:
        _forget(tmp_path)
        for name, text in files.items():
            monkeypatch.delitem(
                sys.modules, PurePath(name).parts[0].removesuffix(".py"), raising=False
            )  # of other tests
            path = tmp_path / (name if "." in name else f"{name}.py")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(dedent(text))
        monkeypatch.syspath_prepend(str(tmp_path))
        importlib.invalidate_caches()
        return reach([importlib.import_module("main").features])

    yield found
    _forget(tmp_path)


def _forget(folder: Path) -> None:
    for name, module in list(sys.modules.items()):
        if str(folder) in repr(module) or name.partition(".")[0] == "pkg":
            del sys.modules[name]


MATTERS: dict[str, tuple[Files, Files]] = {
    "a name that globals() was given": (
        {"main": "from a import F\ndef features(x): return F(x)", "a": "def g(x): return x\nglobals().update(F=g)"},
        {"a": "def g(x): return -x\nglobals().update(F=g)"},
    ),
    "names that a loop makes": (
        {"main": "import a\ndef features(x): return a.f1(x)", "a": "for n in '12':\n    globals()['f' + n] = lambda x: x"},
        {"a": "for n in '12':\n    globals()['f' + n] = lambda x: -x"},
    ),
    "an object in the place of its module": (
        {"main": "import itself\ndef features(x): return itself.X", "itself": "import sys\nclass C:\n    X = 1\nsys.modules[__name__] = C()"},
        {"itself": "import sys\nclass C:\n    X = 2\nsys.modules[__name__] = C()"},
    ),
    "a name that another module adds to Python's own": (
        {"main": "import a\ndef features(x): return to_do(x)", "a": "import builtins\ndef g(x): return x\nbuiltins.to_do = g"},
        {"a": "import builtins\ndef g(x): return -x\nbuiltins.to_do = g"},
    ),
    "a data file named by keyword": (
        {"main": "import mainspring as ms\ndef features(x): return ms.file(path='c.csv')", "c.csv": "a\n1\n"},
        {"c.csv": "a\n2\n"},
    ),
    "a data file named through another name for ms.file": (
        {"main": "from a import data\ndef features(x): return data('c.csv')", "a": "import mainspring as ms\ndata = ms.file",
         "c.csv": "a\n1\n"},
        {"c.csv": "a\n2\n"},
    ),
    "data files named by map": (
        {"main": "def features(x):\n    from mainspring import file\n    return [*map(file, ['c.csv'])]", "c.csv": "a\n1\n"},
        {"c.csv": "a\n2\n"},
    ),
    "data files named by map beside one that is named plainly": (
        {"main": "import mainspring as ms\ndef features(x): return ms.file('b.csv'), [*map(ms.file, ['c' + '.csv'])]",
         "b.csv": "a\n1\n", "c.csv": "a\n1\n"},
        {"c.csv": "a\n2\n"},
    ),
    "data files named by a local map beside one that is named plainly": (
        {"main": "def features(x):\n    from mainspring import file\n    return file('b.csv'), [*map(file, ['c' + '.csv'])]",
         "b.csv": "a\n1\n", "c.csv": "a\n1\n"},
        {"c.csv": "a\n2\n"},
    ),
    "a data file named through an attribute of a class": (
        {"main": "class A:\n    from mainspring import file\ndef features(x): return A.file('c' + '.csv')", "c.csv": "a\n1\n"},
        {"c.csv": "a\n2\n"},
    ),
    "a data file named by getattr": (
        {"main": "import mainspring as ms\ndef features(x): return getattr(ms, 'file')('c.csv')", "c.csv": "1"},
        {"c.csv": "2"},
    ),
    "a data file named by the module that has ms.file": (
        {"main": "from mainspring.pipeline import datafiles\nC = datafiles.file('c.csv')\ndef features(x): return C", "c.csv": "1"},
        {"c.csv": "2"},
    ),
    "a data file named through another module's import": (
        {"main": "import a\ndef features(x): return a.ms.file('c.csv')", "a": "import mainspring as ms", "c.csv": "1"},
        {"c.csv": "2"},
    ),
    "a data file named through a star import": (
        {"main": "from a import *\ndef features(x): return file('c.csv')", "a": "from mainspring import *", "c.csv": "1"},
        {"c.csv": "2"},
    ),
    "a data file named by a part of ms.file": (
        {"main": "import functools, a\ndef features(x): return functools.partial(a.b.read, 'c.csv')()",
         "a": "import b", "b": "from mainspring import file as read", "c.csv": "1"},
        {"c.csv": "2"},
    ),
    "a data file named through vars() of an import by name": (
        {"main": "from importlib import import_module\ndef features(x): return vars(import_module('mainspring'))['file']('c.csv')",
         "c.csv": "1"},
        {"c.csv": "2"},
    ),
    "a data file named through the dictionary of mainspring": (
        {"main": "import mainspring\ndef features(x): return mainspring.__dict__['file']('c.csv')", "c.csv": "1"},
        {"c.csv": "2"},
    ),
    "the second of two data files with one name": (
        {"main": "import mainspring as ms, pkg.a\ndef features(x): return ms.file('c.csv'), pkg.a.f()", "pkg/__init__": "",
         "pkg/a": "import mainspring\ndef f(): return mainspring.file('c.csv')", "c.csv": "1", "pkg/c.csv": "1"},
        {"pkg/c.csv": "2"},
    ),
    "the first of two data files with one name": (
        {"main": "import mainspring as ms, pkg.a\ndef features(x): return ms.file('c.csv'), pkg.a.f()", "pkg/__init__": "",
         "pkg/a": "import mainspring\ndef f(): return mainspring.file('c.csv')", "c.csv": "1", "pkg/c.csv": "1"},
        {"c.csv": "2"},
    ),
    "a function of a module that one used as a value imports": (
        {"main": "import a, operator\ndef features(x): return operator.attrgetter('b.c.f')(a)()", "a": "import b",
         "b": "from pkg import c", "pkg/__init__": "", "pkg/c": "def f(): return 1"},
        {"pkg/c": "def f(): return 2"},
    ),
    "a function that pydantic imports by its name": (
        {"main": "import pydantic\nT = pydantic.TypeAdapter(pydantic.ImportString)\ndef features(x): return T.validate_python('a.f')()",
         "a": "def f(): return 1"},
        {"a": "def f(): return 2"},
    ),
    "a Python file in a folder that is named": (
        {"main": "import mainspring as ms\ndef features(x): return [*ms.file('data/').iterdir()]", "data/a.py": "1"},
        {"data/a.py": "2"},
    ),
    "an annotation in a class that a function makes": (
        {"main": "import dataclasses, a\ndef features(x):\n    @dataclasses.dataclass\n    class C:\n        x: a.T\n    return C",
         "a": "T = int"},
        {"a": "T = str"},
    ),
    "a function two modules away": (
        {"main": "import a\ndef features(x): return a.f(x)", "a": "from b import g as f", "b": "def g(x): return x"},
        {"b": "def g(x): return -x"},
    ),
    "a method of a base class in another module": (
        {
            "main": "from a import Model\ndef features(x): return Model().run(x)",
            "a": "import b\nclass Model(b.Base): pass",
            "b": "class Base:\n    def run(self, x): return x",
        },
        {"b": "class Base:\n    def run(self, x): return -x"},
    ),
    "a property, a class attribute, a dataclass field": (
        {
            "main": "from a import Rules\ndef features(x): return Rules().limit",
            "a": "from dataclasses import dataclass\n@dataclass\nclass Rules:\n    limit: int = 1",
        },
        {"a": "from dataclasses import dataclass\n@dataclass\nclass Rules:\n    limit: int = 2"},
    ),
    "a decorator": (
        {
            "main": "from a import twice\n@twice\ndef features(x): return x",
            "a": "import functools\ndef twice(f):\n    @functools.wraps(f)\n    def g(x): return f(x)\n    return g",
        },
        {"a": "import functools\ndef twice(f):\n    @functools.wraps(f)\n    def g(x): return 2 * f(x)\n    return g"},
    ),
    "a decorator that doesn't say what it wraps": (
        {
            "main": "from a import twice\n@twice\ndef features(x): return x",
            "a": "def twice(f):\n    def g(x): return f(x)\n    return g",
        },
        {"main": "from a import twice\n@twice\ndef features(x): return -x"},
    ),
    "a default computed elsewhere": (
        {"main": "from a import RATE\ndef features(x, rate=RATE): return x", "a": "RATE = 1"},
        {"a": "RATE = 2"},
    ),
    "a default that is an object of the user's": (
        {
            "main": "from a import Rules\ndef make(rules):\n    return lambda x, r=rules: r.go(x)\nfeatures = make(Rules())",
            "a": "class Rules:\n    def go(self, x): return x",
        },
        {"a": "class Rules:\n    def go(self, x): return -x"},
    ),
    "the body of a nested function that closes over an object": (
        {"main": "def make(n):\n    def inner(x): return x\n    return inner\nfeatures = make(object())"},
        {"main": "def make(n):\n    def inner(x): return -x\n    return inner\nfeatures = make(object())"},
    ),
    "a submodule that a package imports under its name": (
        {"main": "import pkg\ndef features(x): return pkg.sub.f(x)", "pkg/__init__": "from . import sub",
         "pkg/sub": "def f(x): return x"},
        {"pkg/sub": "def f(x): return -x"},
    ),
    "a module in a folder without __init__": (
        {"main": "from pkg import helpers\ndef features(x): return helpers.f(x)", "pkg/helpers": "def f(x): return x"},
        {"pkg/helpers": "def f(x): return -x"},
    ),
    "a module deep in folders without __init__": (
        {"main": "import pkg.deep.a as a\ndef features(x): return a.f(x)", "pkg/deep/a": "def f(x): return x"},
        {"pkg/deep/a": "def f(x): return -x"},
    ),
    "the first of two conditional imports": (
        {
            "main": "try:\n    import one as engine\nexcept ImportError:\n    import two as engine\n"
            "def features(x): return engine.f(x)",
            "one": "def f(x): return x",
            "two": "def f(x): return x",
        },
        {"one": "def f(x): return -x"},
    ),
    "a conditional import inside a function": (
        {
            "main": "def features(x):\n    if x:\n        from one import f\n    else:\n        from two import f\n    return f(x)",
            "one": "def f(x): return x",
            "two": "def f(x): return x",
        },
        {"one": "def f(x): return -x"},
    ),
    "a name that a star import gives after it was bound": (
        {"main": "RATE = 1\nfrom lib import *\ndef features(x): return RATE", "lib": "RATE = 2"},
        {"lib": "RATE = 3"},
    ),
    "a builtin that a star import hides": (
        {"main": "from lib import *\ndef features(x): return sum(x)", "lib": "def sum(x): return 1"},
        {"lib": "def sum(x): return 2"},
    ),
    "a star import of a star import": (
        {"main": "from a import *\ndef features(x): return f(x)", "a": "from b import *", "b": "def f(x): return x"},
        {"b": "def f(x): return -x"},
    ),
    "a table changed in another module": (
        {
            "main": "import setup_\nfrom config import TABLE\ndef features(x): return TABLE",
            "config": "TABLE = {}",
            "setup_": "from config import TABLE\nTABLE['x'] = 1",
        },
        {"setup_": "from config import TABLE\nTABLE['x'] = 2"},
    ),
    "a table updated through its module": (
        {
            "main": "import setup_\nimport config\ndef features(x): return config.TABLE",
            "config": "TABLE = {}",
            "setup_": "import config\nconfig.TABLE.update(x=1)",
        },
        {"setup_": "import config\nconfig.TABLE.update(x=2)"},
    ),
    "an attribute of a module set in another": (
        {
            "main": "import setup_, config\ndef features(x): return config.rate()",
            "config": "RATE = 0\ndef rate(): return RATE",
            "setup_": "import config\nconfig.RATE = 1",
        },
        {"setup_": "import config\nconfig.RATE = 2"},
    ),
    "an attribute that its module doesn't have": (
        {
            "main": "import setup_, config\ndef features(x): return config.extra",
            "config": "",
            "setup_": "import config\nconfig.extra = 1",
        },
        {"setup_": "import config\nconfig.extra = 2"},
    ),
    "setattr on a module": (
        {
            "main": "import setup_, config\ndef features(x): return config.RATE",
            "config": "RATE = 0",
            "setup_": "import config\nsetattr(config, 'RATE', object)",
        },
        {"setup_": "import config\nsetattr(config, 'RATE', print)"},
    ),
    "a method replaced in another module": (
        {
            "main": "import patches\nfrom a import Model\ndef features(x): return Model().run(x)",
            "a": "class Model:\n    def run(self, x): return x",
            "patches": "import a\ndef better(self, x): return x\na.Model.run = better",
        },
        {"patches": "import a\ndef better(self, x): return -x\na.Model.run = better"},
    ),
    "a function replaced in another module": (
        {
            "main": "import patches\nfrom a import top\ndef features(x): return top(x)",
            "a": "def fix(x): return x\ndef top(x): return fix(x)",
            "patches": "import a\ndef better(x): return x\na.fix = better",
        },
        {"patches": "import a\ndef better(x): return -x\na.fix = better"},
    ),
    "a setting made by a function that is called at import": (
        {
            "main": "import setup_, config\ndef features(x): return config.RATE",
            "config": "RATE = 0",
            "setup_": "import config\ndef start():\n    config.RATE = 1\nstart()",
        },
        {"setup_": "import config\ndef start():\n    config.RATE = 2\nstart()"},
    ),
    "a function registered in a module imported for that": (
        {
            "main": "import plugins\nfrom registry import TABLE\ndef features(x): return TABLE['p'](x)",
            "registry": "TABLE = {}\ndef register(f):\n    TABLE[f.__name__] = f\n    return f",
            "plugins": "from registry import register\n@register\ndef p(x): return x",
        },
        {"plugins": "from registry import register\n@register\ndef p(x): return -x"},
    ),
    "a function registered by a decorator with arguments, through two functions": (
        {
            "main": "import plugins\nimport registry\ndef features(x): return registry.TABLE['p'](x)",
            "registry": """
                TABLE = {}
                def _keep(name, f): TABLE[name] = f
                def register(name):
                    def inner(f):
                        _keep(name, f)
                        return f
                    return inner
                """,
            "plugins": "import registry\n@registry.register('p')\ndef p(x): return x",
        },
        {"plugins": "import registry\n@registry.register('p')\ndef p(x): return -x"},
    ),
    "a function registered by a method": (
        {
            "main": "import plugins\nfrom registry import R\ndef features(x): return R.go('p', x)",
            "registry": """
                class Registry:
                    def __init__(self): self.all = {}
                    def add(self, f):
                        self.all[f.__name__] = f
                        return f
                    def go(self, name, x): return self.all[name](x)
                R = Registry()
                """,
            "plugins": "from registry import R\n@R.add\ndef p(x): return x",
        },
        {"plugins": "from registry import R\n@R.add\ndef p(x): return -x"},
    ),
    "a handler of a singledispatch function": (
        {
            "main": "import handlers\nfrom base import fix\ndef features(x): return fix(x)",
            "base": "import functools\n@functools.singledispatch\ndef fix(x): return x",
            "handlers": "from base import fix\n@fix.register\ndef _(x: int): return x",
        },
        {"handlers": "from base import fix\n@fix.register\ndef _(x: int): return -x"},
    ),
    "a subclass that its base class keeps": (
        {
            "main": "import shapes\nfrom base import Base\ndef features(x): return Base.kinds['A']().go(x)",
            "base": "class Base:\n    kinds = {}\n    def __init_subclass__(cls):\n        cls.kinds[cls.__name__] = cls",
            "shapes": "from base import Base\nclass A(Base):\n    def go(self, x): return x",
        },
        {"shapes": "from base import Base\nclass A(Base):\n    def go(self, x): return -x"},
    ),
    "a subclass found by __subclasses__": (
        {
            "main": "import shapes\nfrom base import Base\ndef features(x): return Base.__subclasses__()[0]().go(x)",
            "base": "class Base: pass",
            "shapes": "from base import Base\nclass A(Base):\n    def go(self, x): return x",
        },
        {"shapes": "from base import Base\nclass A(Base):\n    def go(self, x): return -x"},
    ),
    "a function in a table filled by an import with a computed name": (
        {
            "main": "import importlib\nfrom registry import TABLE\nfor n in ['plug']:\n"
            "    importlib.import_module(n + 'ins')\ndef features(x): return TABLE['p'](x)",
            "registry": "TABLE = {}",
            "plugins": "import registry\ndef p(x): return x\nt = registry.TABLE\nt['p'] = p",
        },
        {"plugins": "import registry\ndef p(x): return -x\nt = registry.TABLE\nt['p'] = p"},
    ),
    "getattr on a module": (
        {"main": "import a\ndef features(x): return getattr(a, 'f' + x)", "a": "def f1(x): return x"},
        {"a": "def f1(x): return -x"},
    ),
    "a module's __dict__": (
        {"main": "import a\ndef features(x): return a.__dict__['f']", "a": "def f(x): return x"},
        {"a": "def f(x): return -x"},
    ),
    "eval over an imported module": (
        {"main": "import a\ndef features(x): return eval('a.f(x)')", "a": "def f(x): return x"},
        {"a": "def f(x): return -x"},
    ),
    "exec by another name": (
        {"main": "import a\nrun = exec\ndef features(x): return run('import b; b.f()')", "a": "", "b": "def f(): return 1"},
        {"b": "def f(): return 2"},
    ),
    "import_module by another name": (
        {"main": "from importlib import import_module as im\ndef features(x): return im('b' + x)", "b": "Y = 1"},
        {"b": "Y = 2"},
    ),
    "a relative name for import_module": (
        {
            "main": "from pkg.a import f\ndef features(x): return f(x)",
            "pkg/__init__": "",
            "pkg/a": "from importlib import import_module\ndef f(x): return import_module('.b', __package__).g",
            "pkg/b": "def g(): return 1",
        },
        {"pkg/b": "def g(): return 2"},
    ),
    "__import__ of a dotted name": (
        {"main": "def features(x): return __import__('pkg.b').b.g()", "pkg/__init__": "", "pkg/b": "def g(): return 1"},
        {"pkg/b": "def g(): return 2"},
    ),
    "sys.modules": (
        {"main": "import sys, b\ndef features(x): return sys.modules['b'].g()", "b": "def g(): return 1"},
        {"b": "def g(): return 2"},
    ),
    "globals()": (
        {"main": "import b\ndef features(x): return globals()['b'].g()", "b": "def g(): return 1"},
        {"b": "def g(): return 2"},
    ),
    "runpy": (
        {"main": "import runpy\ndef features(x): return runpy.run_path('b.py')", "b": "Y = 1"},
        {"b": "Y = 2"},
    ),
    "a script whose name isn't a Python name, run by a computed path": (
        {"main": "import runpy\ndef features(x): return runpy.run_path('01-b.py')", "01-b.py": "Y = 1"},
        {"01-b.py": "Y = 2"},
    ),
    "a class named in a text annotation": (
        {"main": "from a import Rules\ndef features(x: 'Rules'): return x", "a": "class Rules:\n    limit = 1"},
        {"a": "class Rules:\n    limit = 2"},
    ),
    "an import in a class body": (
        {"main": "class A:\n    import b as c\ndef features(x): return A.c.g()", "b": "def g(): return 1"},
        {"b": "def g(): return 2"},
    ),
    "a metaclass": (
        {"main": "from b import M\nclass A(metaclass=M): pass\ndef features(x): return A.n", "b": "class M(type):\n    n = 1"},
        {"b": "class M(type):\n    n = 2"},
    ),
    "a statement under another test of __name__": (
        {"main": "R = print\nif __name__ != '__main__':\n    R = len\ndef features(x): return R"},
        {"main": "R = print\nif __name__ != '__main__':\n    R = str\ndef features(x): return R"},
    ),
    "a constant in a package's __init__": (
        {"main": "from pkg.a import f\ndef features(x): return f()", "pkg/__init__": "RATE = 1",
         "pkg/a": "from . import RATE\ndef f(): return RATE"},
        {"pkg/__init__": "RATE = 2"},
    ),
    "what a module's __getattr__ gives": (
        {"main": "import a\ndef features(x): return a.anything", "a": "def __getattr__(name): return 1"},
        {"a": "def __getattr__(name): return 2"},
    ),
    "a variable that only becomes local by unreachable code": (
        {"main": "y = 1\ndef features(x):\n    return y"},
        {"main": "y = 1\ndef features(x):\n    return y\n    y = 2"},
    ),
    "a setting of a library in another module": (
        {"main": "import random, setup_\ndef features(x): return random.random()", "setup_": "import random\nrandom.seed(1)"},
        {"setup_": "import random\nrandom.seed(2)"},
    ),
    "a data file named by a constant of another module": (
        {"main": "from a import CITIES\ndef features(x): return CITIES",
         "a": "import mainspring as ms\nCITIES = ms.file('data/c.csv')", "data/c.csv": "a\n1\n"},
        {"data/c.csv": "a\n2\n"},
    ),
    "a data file named inside the function": (
        {"main": "from mainspring import file as data\ndef features(x): return data('c.csv').read_text()", "c.csv": "1"},
        {"c.csv": "2"},
    ),
    "a data file named by a computed path": (
        {"main": "import mainspring\ndef features(x): return mainspring.file(f'data/{x}.csv')", "data/c.csv": "1"},
        {"data/c.csv": "2"},
    ),
    "a new file in the folder of a computed path": (
        {"main": "import mainspring\ndef features(x): return mainspring.file('data/' + x)", "data/c.csv": "1"},
        {"data/d.csv": "2"},
    ),
}  # fmt: skip

_MODELS = """
    class Model:
        rate = 1
        def __init__(self): self.k = 1
        def set(self, k):
            self.k = k
            return self
        def go(self): return self.k
    MODEL = Model()
    ALL = [MODEL]
    def get(): return MODEL
    """
_ALTERS = {
    "all objects of a list": "for m in config.ALL: m.k = {}",
    "all objects of a list, by a method": "[m.set({}) for m in config.ALL]",
    "an object by a method whose value is taken": "x = config.MODEL.set({})",
    "an object by another name": "o = config.MODEL\no.k = {}",
    "an object that a function gives": "config.get().set({})",
    "an object that is kept in another": "HOLD = dict(a=config.MODEL)\nHOLD['a'].k = {}",
    "an object by a method of its class": "x = config.Model.set(config.MODEL, {})",
    "an object that a function takes by another name": "def f():\n    o = config.MODEL\n    o.k = {}\nf()",
    "a class that a function takes": "def f(cls):\n    cls.rate = {}\n    return cls\nZ = f(config.Model)",
    "a method of a class that a function takes": "def f(cls): cls.go = lambda self: {}\nf(config.Model)",
    "the class of an object": "type(config.MODEL).rate = {}",
    "a class by another name": "K = config.Model\nK.rate = {}",
}
MATTERS |= {
    f"a module that alters {what}": (
        {
            "main": "import setup_, config\ndef features(x): return config.MODEL.go() + config.Model.rate",
            "config": _MODELS,
            "setup_": "import config\n" + text.format(10),
        },
        {"setup_": "import config\n" + text.format(20)},
    )
    for what, text in _ALTERS.items()
}

HARMLESS: dict[str, tuple[Files, Files]] = {
    "a comment and a line more beside objects and classes that hold what statements gave them": (
        {
            "main": "import setup_, config\ndef features(x): return config.MODEL.go()",
            "config": _MODELS,
            "setup_": "import config\nfor m in config.ALL: m.k = {'b', 'a'}\nK = config.Model\nK.f = lambda self: 1",
        },
        {"setup_": "import config\n# why\nY = 1\nfor m in config.ALL: m.k = {'b', 'a'}\nK = config.Model\nK.f = lambda self: 1"},
    ),
    "a comment, a docstring, formatting": (
        {"main": "import a\ndef features(x): return a.f(x)", "a": "def f(x): return x + 1"},
        {"a": "'''Module.'''\n# why\ndef f(x):\n    '''Doc.'''\n\n    return (x\n        + 1)"},
    ),
    "code behind a return": (
        {"main": "def features(x):\n    return x"},
        {"main": "def features(x):\n    return x\n    print(x)"},
    ),
    "code under if False and TYPE_CHECKING": (
        {"main": "def features(x):\n    return x"},
        {"main": "import b\ndef features(x):\n    if False:\n        b.g()\n    return x", "b": "def g(): pass"},
    ),
    "another function of the same module": (
        {"main": "import a\ndef features(x): return a.f(x)", "a": "def f(x): return x\ndef g(x): return 1"},
        {"a": "def f(x): return x\ndef g(x): return 2"},
    ),
    "another key of a config in another module": (
        {"main": "import config\ndef features(x): return config.RATE", "config": "RATE = 1\nOTHER = 1"},
        {"config": "RATE = 1\nOTHER = 2"},
    ),
    "a module nobody imports": (
        {"main": "def features(x): return x", "b": "Y = 1"},
        {"b": "Y = 2"},
    ),
    "another table changed in another module": (
        {
            "main": "import setup_, config\ndef features(x): return config.TABLE",
            "config": "TABLE = {}\nOTHER = {}",
            "setup_": "import config\nconfig.OTHER['x'] = 1",
        },
        {"setup_": "import config\nconfig.OTHER['x'] = 2"},
    ),
    "a function of the same name as its module": (
        {"main": "import pkg\ndef features(x): return pkg.f(x)", "pkg/__init__": "from .f import f",
         "pkg/f": "def f(x): return x\ndef g(x): return 1"},
        {"pkg/f": "def f(x): return x\ndef g(x): return 2"},
    ),
    "a data file that another function names": (
        {"main": "import mainspring\ndef other(): return mainspring.file('c.csv')\ndef features(x): return x", "c.csv": "1"},
        {"c.csv": "2"},
    ),
    "an unused name of a star import's module": (
        {"main": "from lib import f\ndef features(x): return f(x)", "lib": "def f(x): return x\nOTHER = 1"},
        {"lib": "def f(x): return x\nOTHER = 2"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("edit", MATTERS)
def test_an_edit_that_matters_changes_the_digest(reached: Reached, edit: str) -> None:
    before, change = MATTERS[edit]

    first, again = reached(before), reached(before)
    second = reached({**before, **change})

    assert (first.digest, first.files) == (again.digest, again.files)
    assert (first.digest, first.files) != (second.digest, second.files), first.modules


@pytest.mark.parametrize("edit", HARMLESS)
def test_an_edit_that_cannot_matter_leaves_the_digest_alone(reached: Reached, edit: str) -> None:
    before, change = HARMLESS[edit]

    first, second = reached(before), reached({**before, **change})

    assert (first.digest, first.files) == (second.digest, second.files), second.modules
