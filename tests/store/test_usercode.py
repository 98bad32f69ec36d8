"""A bundle's own code: by its own names, several versions at once, never what happens to lie around."""

from __future__ import annotations

import sys
import traceback
from pathlib import Path

import pytest

from mainspring.core.errors import BundleError
from mainspring.store.usercode import PREFIX, UserCode, file_of, module_of, package_name


def test_two_versions_of_one_module_answer_rightly_in_one_process() -> None:
    old = UserCode.of({"features": "from helpers import RATE\ndef f(x): return x * RATE", "helpers": "RATE = 2"})
    new = UserCode.of({"features": "from helpers import RATE\ndef f(x): return x * RATE", "helpers": "RATE = 3"})

    assert (old.find("features:f")(1), new.find("features:f")(1), old.find("features:f")(1)) == (2, 3, 2)
    assert old.package != new.package and old.package.startswith(PREFIX)


@pytest.mark.parametrize(
    "statement",
    [
        "import helpers\nvalue = helpers.X",
        "import helpers as h\nvalue = h.X",
        "from helpers import X as value",
        "import pkg.deep.sub\nvalue = pkg.deep.sub.X",
        "import pkg.deep.sub as s\nvalue = s.X",
        "from pkg.deep import sub\nvalue = sub.X",
        "from pkg import exported as value",
        "from pkg.deep.sub import *\nvalue = X",
        "import os, helpers\nvalue = helpers.X if os.sep else 0",
        "import importlib\nvalue = importlib.import_module('helpers').X",
        "def late():\n    from helpers import X\n    return X\nvalue = late()",
    ],
)
def test_imports_among_the_bundles_modules_find_the_bundles_modules(
    statement: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "helpers.py").write_text("X = 'wrong'")
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("helpers", "pkg"):  # another test's
        monkeypatch.delitem(sys.modules, name, raising=False)
    modules = {
        "main": f"{statement}\n",
        "helpers": "X = 7",
        "pkg": "from .deep.sub import X as exported",
        "pkg.deep.sub": "from helpers import X",
    }

    assert UserCode.of(modules).find("main:value") == 7

    assert "helpers" not in sys.modules and "pkg" not in sys.modules


def test_libraries_are_imported_as_ever() -> None:
    code = UserCode.of({"main": "import math\nfrom json import dumps\ndef f(): return dumps(math.floor(1.5))"})

    assert code.find("main:f")() == "1"


def test_nested_names_and_future_statements_work() -> None:
    source = "from __future__ import annotations\nclass A:\n    class B:\n        def m(self: Unknown): return 1\n"

    assert UserCode.of({"pkg.models": source}).find("pkg.models:A.B")().m() == 1


@pytest.mark.parametrize("reference", ["gone:f", "main:gone", "main", "broken:f"])
def test_what_is_not_there_is_named(reference: str) -> None:
    code = UserCode.of({"main": "def f(): pass", "broken": "open('/no/such/file')\ndef f(): pass"})

    with pytest.raises(BundleError, match=f"{reference} can't be had"):
        code.find(reference)


def test_a_traceback_shows_the_packaged_line() -> None:
    code = UserCode.of({"main": "def f():\n    # why\n    raise ValueError('no')\n"})

    with pytest.raises(ValueError, match="no") as caught:
        code.find("main:f")()

    assert "raise ValueError('no')" in "".join(traceback.format_exception(caught.value))


def test_the_name_follows_the_content() -> None:
    assert package_name({"a": "x", "b": "y"}) == package_name({"b": "y", "a": "x"})
    assert package_name({"a": "x"}) != package_name({"a": "y"}) != package_name({"b": "y"})
    assert module_of(file_of("pkg.sub")) == "pkg.sub"
