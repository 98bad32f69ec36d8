"""What a function reaches: found, cut out, and digested by meaning."""

from __future__ import annotations

import importlib
import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent
from types import ModuleType
from typing import Any

import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from mainspring.pipeline.reach import Reach, locate, reach, references

Load = Callable[..., ModuleType]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Load]:
    """Write the files of a project and import one of its modules, as `python FILE` would."""

    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # of two edits in a second Python takes the older's

    def written(_module: str = "main", **files: str) -> ModuleType:
        for name, text in files.items():
            path = tmp_path / f"{name}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(dedent(text))
        monkeypatch.syspath_prepend(str(tmp_path))
        forget()
        for name in files:  # of another test of this process
            monkeypatch.delitem(sys.modules, name, raising=False)
        importlib.invalidate_caches()
        spec = importlib.util.spec_from_file_location(_module, tmp_path / f"{_module}.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[_module] = module
        spec.loader.exec_module(module)
        return module

    def forget() -> None:
        for name, known in list(sys.modules.items()):
            if str(tmp_path) in str(getattr(known, "__file__", "")):
                del sys.modules[name]

    yield written
    forget()


def reached(module: ModuleType, name: str = "features") -> Reach:
    return reach([getattr(module, name)])


def test_only_the_statements_that_a_function_uses_are_cut_out(load: Load) -> None:
    main = load(
        main="""
        import math, os
        RATE = 2
        UNUSED = os.getcwd()
        def helper(x): return x * RATE
        def unused(): return UNUSED
        def features(x): return helper(math.floor(x))
        """
    )

    found = reached(main)

    assert found.modules == {
        "main": "import math\nRATE = 2\ndef helper(x): return x * RATE\ndef features(x): return helper(math.floor(x))\n"
    }
    assert found.entry_points == ("main:features",)


def test_names_are_followed_through_every_kind_of_import(load: Load) -> None:
    main = load(
        main="""
        import one
        import two as second
        import pkg.inner.deep
        from three import fix as mend
        from pkg import table
        from pkg import exported
        def features(x):
            from four import late
            import five
            return one.f(x), second.g(x), mend(x), table.ROWS, exported(x), late(x), five.h(x), pkg.inner.deep.d(x)
        """,
        one="def f(x): return x\ndef other(): pass",
        two="def g(x): return x\ndef other(): pass",
        three="def fix(x): return x\ndef other(): pass",
        four="def late(x): return x\ndef other(): pass",
        five="def h(x): return x\ndef other(): pass",
        **{
            "pkg/__init__": "from .hidden import exported\nfrom .hidden import other",
            "pkg/hidden": "def exported(x): return x\ndef other(): pass",
            "pkg/table": "ROWS = [1]\nother = 2",
            "pkg/inner/__init__": "",
            "pkg/inner/deep": "from ..hidden import exported as e\ndef d(x): return e(x)",
        },
    )

    found = reached(main)

    assert not any("other" in source for source in found.modules.values())
    assert set(found.modules) == {
        "main", "one", "two", "three", "four", "five", "pkg", "pkg.hidden", "pkg.table", "pkg.inner", "pkg.inner.deep"
    }  # fmt: skip
    assert found.modules["pkg"] == "from .hidden import exported\n"
    assert found.widened == ()


def test_bases_decorators_defaults_and_class_constants_are_reached(load: Load) -> None:
    main = load(
        main="""
        def decorate(f): return f
        LIMIT, SCALE, SHARED = 1, 2, 3
        class Base:
            level = SCALE
        class Model(Base):
            @decorate
            def run(self, x, limit=LIMIT): return x
        def features(x): return Model().run(x)
        """
    )

    found = reached(main).modules["main"]

    assert "class Base" in found and "def decorate" in found and "LIMIT, SCALE" in found


def test_a_local_name_hides_the_global_of_the_same_name(load: Load) -> None:
    main = load(
        main="""
        flights = __file__ * 2
        rows = flights
        def features(flights):
            total = [rows for rows in flights]
            return total
        """
    )

    assert reached(main).modules["main"] == (
        "def features(flights):\n    total = [rows for rows in flights]\n    return total\n"
    )


def test_a_name_in_a_comprehension_hides_nothing_outside_it(load: Load) -> None:
    main = load(main="x = 2\ndef features(a): return [x for x in a] + [x]")

    assert "x = 2" in reached(main).modules["main"]


def test_statements_that_change_a_reached_object_come_along(load: Load) -> None:
    main = load(
        main="""
        import random
        TABLE, NAMES, ORDER, OTHER = {}, [], [1, 2], {}
        TABLE["x"] = 1
        NAMES.append("y")
        OTHER["z"] = 2
        random.shuffle(ORDER)
        def register(function):
            TABLE[function.__name__] = function
            return function
        @register
        def named(x): return x
        print(TABLE)
        def features(x): return TABLE, NAMES, ORDER
        """
    )

    found = reached(main).modules["main"]

    for line in ('TABLE["x"] = 1', 'NAMES.append("y")', "random.shuffle(ORDER)", "def named"):
        assert line in found
    assert "print" not in found


def test_the_declaration_and_the_script_around_it_are_not_reached(load: Load) -> None:
    main = load(
        main="""
        import pathlib
        def Loop(*arguments, **keywords): return print
        def features(x): return x
        loop = Loop("late", data=pathlib.Path("gone"), features=features)
        loop(features)
        if __name__ == "__main__":
            features = None
        """
    )

    assert reached(main).modules["main"] == "def features(x): return x\n"


@pytest.mark.parametrize(
    ("before", "after", "same"),
    [
        ("def features(x): return x + 1", "# why\ndef features(x):\n    '''Doc.'''\n    return (x  +  1)", True),
        ("def features(x): return x + 1", "def features(x): return x + 2", False),
        ("A = 1\ndef features(x): return x + A", "A = 2\ndef features(x): return x + A", False),
        ("A = 1\ndef features(x): return x", "A = 2\ndef features(x): return x", True),
        ("def features(x, y=1): return x", "def features(x, y=2): return x", False),
        ("def features(x): return x", "def other(): pass\ndef features(x): return x", True),
        (
            "def h(x): return x\ndef features(x): return h(x)",
            "def h(x): return -x\ndef features(x): return h(x)",
            False,
        ),
    ],
)
def test_the_digest_follows_meaning_and_nothing_else(load: Load, before: str, after: str, same: bool) -> None:
    first = reached(load(main=before)).digest
    second = reached(load(main=after)).digest

    assert (first == second) is same


def test_an_edit_deep_in_another_module_changes_the_digest_and_names_the_piece(load: Load) -> None:
    files = {
        "main": "import a\ndef features(x): return a.f(x)",
        "a": "from b import g\ndef f(x): return g(x)",
        "b": "from c import K\ndef g(x): return K",
    }
    first = reached(load(**files, c="K = 1"))
    second = reached(load(**files, c="K = 2"))

    changed = {name for name in second.pieces if second.pieces[name] != first.pieces[name]}
    assert first.digest != second.digest and changed == {"c:K"}


def test_a_star_import_widens_to_the_whole_module_and_says_so(load: Load) -> None:
    main = load(main="from lib import *\ndef features(x): return f(x)", lib="def f(x): return x\nOTHER = 1")

    found = reached(main)

    assert found.modules["lib"] == "def f(x): return x\nOTHER = 1\n"
    assert found.widened == ("the whole module lib: module main imports all its names",)


@pytest.mark.parametrize(
    "body",
    ["return getattr(lib, name)(name)", "return vars(lib)[name]", "return (lambda m: m)(lib)", "h = lib; return h.f"],
)
def test_a_module_used_as_a_value_is_taken_whole(load: Load, body: str) -> None:
    main = load(main=f"import lib\ndef features(name):\n    {body}", lib="def f(x): return x\nOTHER = 1")

    found = reached(main)

    assert "OTHER" in found.modules["lib"] and any("lib" in note for note in found.widened)


@pytest.mark.parametrize("call", ["exec('y = 1')", "eval('OTHER')", "globals()['OTHER']"])
def test_code_that_cannot_be_followed_takes_its_whole_module(load: Load, call: str) -> None:
    main = load(main=f"OTHER = 1\ndef features(x): return {call}")

    found = reached(main)

    assert "OTHER = 1" in found.modules["main"] and "whole module main" in found.widened[0]


def test_an_import_by_a_computed_name_takes_the_whole_project(load: Load) -> None:
    text = "import importlib\ndef features(x): return importlib.import_module('pl' + x).f"
    main = load(main=text, plug="def f(): pass", **{"deeper/more": "X = 1"})

    found = reached(main)

    assert {"plug", "deeper.more"} <= set(found.modules) and any("computed name" in note for note in found.widened)


def test_a_virtual_environment_in_the_project_is_not_looked_through(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in (".venv", "venv", "lib", "lib/__pycache__"):
        (tmp_path / folder / "deep").mkdir(parents=True)
        (tmp_path / folder / "deep" / "own.py").write_text(f"PLACE = {folder!r}\n")
    looked: list[str] = []
    scandir = os.scandir

    def told(path: Any = ".") -> Any:
        looked.append(os.path.relpath(path, tmp_path))
        return scandir(path)

    main = load(main="import importlib\ndef features(x): return importlib.import_module(x).f")
    monkeypatch.setattr(os, "scandir", told)
    found = reached(main)

    assert set(found.modules) == {"main", "lib.deep.own"}
    assert {"lib", "lib/deep"} <= set(looked) and not [name for name in looked if "venv" in name or "cache" in name]


def test_an_import_by_a_literal_name_is_followed(load: Load) -> None:
    text = "import importlib\ndef features(x): return importlib.import_module('plug').f"

    assert "plug" in reached(load(main=text, plug="def f(): pass")).modules


def test_installed_libraries_are_named_and_not_copied(load: Load) -> None:
    text = "import os\nimport polars\nfrom numpy import abs\nimport sklearn\ndef features(x): return polars, abs, os"

    found = reached(load(main=text))

    assert found.libraries == ("numpy", "polars") and set(found.modules) == {"main"}


def test_a_lambda_gets_a_name_of_its_own(load: Load) -> None:
    main = load(main="SCALE = 3\nchoices = [lambda x: x, lambda x: x * SCALE]\nloop = print")

    (entry,) = (found := reach([main.choices[1]])).entry_points

    module, _, name = entry.partition(":")
    space: dict[str, Any] = {}
    exec(found.modules[module], space)
    assert space[name](2) == 6 and "choices" not in found.modules["main"]


def test_a_nested_function_brings_what_it_closes_over(load: Load) -> None:
    main = load(
        main="""
        def double(x): return 2 * x
        def make(plus, names, how):
            step = 10
            def inner(x, more=step):
                return how(x) + plus + len(names) + more
            return inner
        made = [make(1, ["a"], double)]
        """
    )

    found = reach([main.made[0]])

    name = found.entry_points[0].partition(":")[2]
    space: dict[str, Any] = {}
    exec(found.modules["main"], space)
    assert space[name](3) == 6 + 1 + 1 + 10


def test_closures_over_other_values_have_other_digests(load: Load) -> None:
    main = load(main="def make(n):\n    return lambda x: x + n\na, b, c = [make(1)], [make(2)], [make(1)]")

    first, second, third = (reach(value).digest for value in (main.a, main.b, main.c))

    assert first != second and first == third


def test_a_closure_that_cannot_be_written_says_what_to_do(load: Load) -> None:
    main = load(main="def make(n):\n    return lambda x: n\nmade = [make(object())]")

    found = reach(main.made)

    assert found.entry_points == ("",) and "define it at the top level" in found.widened[0]


def test_a_closure_bound_at_top_level_is_had_by_that_name(load: Load) -> None:
    main = load(main="def make(n):\n    return lambda x: x + n\nfeatures = make(object())")

    assert reached(main).entry_points == ("main:features",)


def test_a_partial_is_written_out(load: Load) -> None:
    text = "import functools\ndef scale(x, by): return x * by\nmade = [functools.partial(scale, by=4)]"

    found = reach(load(main=text).made)

    space: dict[str, Any] = {}
    exec(found.modules["main"], space)
    assert space[found.entry_points[0].partition(":")[2]](2) == 8


def test_the_users_parts_of_an_estimator_are_found(load: Load) -> None:
    main = load(
        main="""
        from sklearn.base import BaseEstimator, TransformerMixin
        LIMIT = 5
        class Clip(TransformerMixin, BaseEstimator):
            def fit(self, X, y=None): return self
            def transform(self, X): return X.clip(-LIMIT, LIMIT)
        def double(X): return 2 * X
        """
    )
    model = make_pipeline(main.Clip(), FunctionTransformer(main.double), RandomForestClassifier())

    found = reach([model])

    assert (
        "class Clip" in found.modules["main"]
        and "def double" in found.modules["main"]
        and "LIMIT" in found.modules["main"]
    )
    assert {where for _, where in references(model).values()} == {"main:Clip", "main:double"}
    assert found.entry_points == ("",)


def test_a_library_has_no_place_in_the_project() -> None:
    assert locate([RandomForestClassifier, len]) == ("", "")
    assert reach([RandomForestClassifier]).libraries == ("sklearn",)


def test_a_script_is_known_by_its_files_name(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(
        "from mainspring.pipeline.reach import reach\n"
        "def features(x): return x\n"
        "if __name__ == '__main__':\n"
        "    print(reach([features]).entry_points, sorted(reach([features]).modules))\n"
    )

    run = subprocess.run([sys.executable, "train.py"], cwd=tmp_path, capture_output=True, text=True, check=True)

    assert run.stdout.strip() == "('train:features',) ['train']"


def test_a_notebooks_cells_are_its_module(monkeypatch: pytest.MonkeyPatch) -> None:
    cells = [
        "",
        "%matplotlib inline\nSCALE = 2",
        "def features(x):\n    return x * SCALE",
        "this is not Python",
        "%%bash\nls",
        "def features(x):\n    return x * SCALE  # run again",
        "features(1)",
    ]
    notebook = notebook_of(cells)
    monkeypatch.setitem(sys.modules, "__main__", notebook)

    found = reach([notebook.features])

    assert found.entry_points == ("notebook:features",)
    assert found.modules["notebook"] == "SCALE = 2\ndef features(x):\n    return x * SCALE  # run again\n"
    again = notebook_of([*cells, cells[2]])
    monkeypatch.setitem(sys.modules, "__main__", again)
    assert reach([again.features]).digest == found.digest


def notebook_of(cells: list[str]) -> ModuleType:
    notebook = ModuleType("__main__")
    notebook.__dict__["In"] = cells
    for number, cell in enumerate(cells):
        if "def " in cell or "SCALE =" in cell:
            exec(compile(cell.replace("%matplotlib inline\n", ""), f"<ipython-input-{number}>", "exec"), vars(notebook))
    return notebook


def test_a_function_without_source_is_told_apart_by_its_code() -> None:
    def made(body: str) -> Any:
        space: dict[str, Any] = {"__name__": "nowhere"}
        exec(compile(f"def features(x): return {body}", "<made>", "exec"), space)
        return space["features"]

    first, second = reach([made("x + 1")]), reach([made("x + 2")])

    assert first.digest != second.digest and first.entry_points == ("",) and "source" in first.widened[0]


def test_earlier_definitions_that_are_still_used_are_kept(load: Load) -> None:
    main = load(main="x = 1\ny = x + 1\nx = 5\ndef features(a): return x + y")

    assert reached(main).modules["main"] == "x = 1\ny = x + 1\nx = 5\ndef features(a): return x + y\n"


def test_conditional_imports_come_with_their_whole_statement(load: Load) -> None:
    text = """
        try:
            import fast as engine
        except ImportError:
            import slow as engine
        def features(x): return engine.f(x)
        """

    found = reached(load(main=text, slow="def f(x): return x\nOTHER = 1"))

    assert "except ImportError" in found.modules["main"] and found.modules["slow"] == "def f(x): return x\n"


def test_a_package_with_computed_names_is_taken_whole(load: Load) -> None:
    lazy = "def __getattr__(name):\n    return 1\nOTHER = 2"

    found = reached(load(main="import lazy\ndef features(x): return lazy.anything", lazy=lazy))

    assert "OTHER" in found.modules["lazy"] and "__getattr__" in found.widened[0]


def test_a_setting_of_a_library_comes_along_and_a_reading_of_data_does_not(load: Load) -> None:
    text = """
        import numpy as np
        np.random.seed(0)
        np.zeros(3)
        def features(x): return np.abs(x)
        """

    found = reached(load(main=text)).modules["main"]

    assert "np.random.seed(0)" in found and "zeros" not in found
