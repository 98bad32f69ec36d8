"""Code that travels in a value: whoever takes a model, a function or a class depends on the code that it holds."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from textwrap import dedent
from types import ModuleType
from typing import Any

import pytest

from mainspring.execution.engine import Outcome, execute
from mainspring.execution.keeping import unchanged
from mainspring.execution.planning import PlannedStep, plan
from mainspring.pipeline.graph import Graph
from mainspring.store.home import Home
from mainspring.store.journal import Journal

pytestmark = pytest.mark.filterwarnings("ignore:.*is kept as a pickle")

MODEL = """
class Model:
    def __init__(self, rate):
        self.rate = rate

    def predict(self, x):
        return x * self.rate + 1
"""
STEPS = """
from held_helpers import Model

def train():
    return Model(2)

def score(train):
    return train.predict(10)
"""
Project = Callable[[Mapping[str, str]], ModuleType]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """Writes modules and imports `held_steps` anew, as another process would."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def write(files: Mapping[str, str]) -> ModuleType:
        _forget()
        for name, text in files.items():
            (tmp_path / f"{name}.py").write_text(dedent(text))
        importlib.invalidate_caches()
        return importlib.import_module("held_steps")

    yield write
    _forget()


def _forget() -> None:
    for name in [name for name in sys.modules if name.startswith("held_")]:
        del sys.modules[name]


def graph(module: ModuleType) -> Graph:
    return Graph([value for value in vars(module).values() if getattr(value, "__module__", "") == "held_steps"
                  and callable(value) and not isinstance(value, type) and value.__name__[0] != "_"])  # fmt: skip


def ran(home: Home, module: ModuleType) -> Outcome:
    return execute(graph(module), home=home, pipeline="held")


def states(outcome: Outcome) -> dict[str, str]:
    return {step.name: step.state for step in outcome.steps}


def planned(home: Home, module: ModuleType) -> dict[str, PlannedStep]:
    return {step.name: step for step in plan(graph(module), home=home, pipeline="held")}


def told(step: PlannedStep) -> list[str]:
    return [str(reason) for reason in step.reasons]


def test_an_edited_method_of_a_returned_object_has_its_user_run_again(project: Project, home: Home) -> None:
    assert ran(home, project({"held_helpers": MODEL, "held_steps": STEPS})).outputs["score"] == 21
    edited = project({"held_helpers": MODEL.replace("+ 1", "+ 100"), "held_steps": STEPS})

    step = planned(home, edited)["score"]

    assert step.state == "run" and told(step) == ["class Model, held_helpers.py:2, changed"]
    outcome = ran(home, edited)
    assert outcome.outputs["score"] == 120 and states(outcome) == {"train": "run", "score": "run"}
    again = project({"held_helpers": MODEL.replace("+ 1", "+ 100"), "held_steps": STEPS})
    assert states(ran(home, again)) == {"train": "cached", "score": "cached"}
    assert {step.state for step in planned(home, again).values()} == {"cached"}


def test_comments_and_code_that_the_object_does_not_reach_leave_its_user_cached(project: Project, home: Home) -> None:
    ran(home, project({"held_helpers": MODEL, "held_steps": STEPS}))
    other = f"# a comment\n{MODEL}\n\ndef unused():\n    return 1\n"

    assert set(states(ran(home, project({"held_helpers": other, "held_steps": STEPS}))).values()) == {"cached"}


EDITS: dict[str, tuple[Mapping[str, str], tuple[str, str], Any, Any]] = {
    "a function": (
        {"held_helpers": "def fix(x):\n    return x + 1", "held_steps": """
            import held_helpers
            def train(): return held_helpers.fix
            def score(train): return train(1)
        """}, ("x + 1", "x + 5"), 2, 6,
    ),
    "a partial of a function that calls another": (
        {"held_helpers": "RATE = 3\ndef inner(x): return x * RATE\ndef fix(x, y): return inner(x) + y",
         "held_steps": """
            import functools, held_helpers
            def train(): return functools.partial(held_helpers.fix, y=1)
            def score(train): return train(1)
        """}, ("RATE = 3", "RATE = 4"), 4, 5,
    ),
    "a class": (
        {"held_helpers": MODEL, "held_steps": """
            from held_helpers import Model
            def train(): return Model
            def score(train): return train(1).predict(1)
        """}, ("+ 1", "+ 2"), 2, 3,
    ),
    "a bound method": (
        {"held_helpers": MODEL, "held_steps": """
            from held_helpers import Model
            def train(): return Model(1).predict
            def score(train): return train(1)
        """}, ("+ 1", "+ 2"), 2, 3,
    ),
    "objects deep in containers": (
        {"held_helpers": MODEL, "held_steps": """
            from held_helpers import Model
            def train(): return {"best": [(1, Model(1))]}
            def score(train): return train["best"][0][1].predict(1)
        """}, ("+ 1", "+ 2"), 2, 3,
    ),
    "a method of a base class": (
        {"held_helpers": f"{MODEL}\nclass Own(Model):\n    pass", "held_steps": """
            from held_helpers import Own
            def train(): return Own(1)
            def score(train): return train.predict(1)
        """}, ("+ 1", "+ 2"), 2, 3,
    ),
    "an object that only an attribute of another holds": (
        {"held_helpers": f"{MODEL}\nclass Box:\n    def __init__(self, inner): self.inner = inner", "held_steps": """
            from held_helpers import Box, Model
            def train(): return Box([Model(1)])
            def score(train): return train.inner[0].predict(1)
        """}, ("+ 1", "+ 2"), 2, 3,
    ),
    "a singleton that is pickled by its name": (
        {"held_helpers": """
            class Codec:
                def __init__(self, rate): self.rate = rate
                def __reduce__(self): return "CODEC"
            CODEC = Codec(3)
        """, "held_steps": """
            import held_helpers
            def train(): return held_helpers.CODEC
            def score(train): return train.rate
        """}, ("Codec(3)", "Codec(4)"), 3, 4,
    ),
    "an object whose module only its step imports": (
        {"held_helpers": MODEL, "held_steps": """
            def train():
                from held_helpers import Model
                return Model(1)
            def score(train): return train.predict(1)
        """}, ("+ 1", "+ 2"), 2, 3,
    ),
    "an enumeration": (
        {"held_helpers": """
            import enum
            class Colour(enum.Enum):
                RED = 1
                def shade(self): return self.value * 2
        """, "held_steps": """
            from held_helpers import Colour
            def train(): return Colour.RED
            def score(train): return train.shade()
        """}, ("* 2", "* 3"), 2, 3,
    ),
    "a value with a format of the user's": (
        {"held_helpers": """
            import mainspring as ms
            class Picture:
                def __init__(self, size): self.size = size
                def area(self): return self.size ** 2
            def write(picture): return str(picture.size).encode()
            def read(content): return Picture(int(content))
            ms.register_format(Picture, "held-picture", write, read)
        """, "held_steps": """
            from held_helpers import Picture
            def train(): return Picture(3)
            def score(train): return train.area()
        """}, ("** 2", "** 3"), 9, 27,
    ),
    "the reading of a format, a lambda": (
        {"held_helpers": """
            import mainspring as ms
            class Sketch:
                def __init__(self, size): self.size = size
            ms.register_format(Sketch, "held-sketch", lambda it: b"3", lambda content: Sketch(int(content) + 0))
        """, "held_steps": """
            from held_helpers import Sketch
            def train(): return [Sketch(3)]
            def score(train): return train[0].size
        """}, ("+ 0", "+ 1"), 3, 4,
    ),
    "a transformer in a scikit-learn pipeline": (
        {"held_helpers": """
            from sklearn.base import BaseEstimator, TransformerMixin
            class Plus(TransformerMixin, BaseEstimator):
                def fit(self, x, y=None):
                    self.fitted_ = True
                    return self
                def transform(self, x): return x + 1
        """, "held_steps": """
            import numpy as np
            from sklearn.pipeline import make_pipeline
            from held_helpers import Plus
            def train(): return make_pipeline(Plus(), "passthrough").fit(np.zeros((2, 1)))
            def score(train): return float(train.transform(np.zeros((1, 1)))[0, 0])
        """}, ("x + 1", "x + 2"), 1.0, 2.0,
    ),
    "a function in a scikit-learn transformer": (
        {"held_helpers": "def plus(x): return x + 1", "held_steps": """
            import numpy as np
            from sklearn.preprocessing import FunctionTransformer
            from held_helpers import plus
            def train(): return FunctionTransformer(plus)
            def score(train): return float(train.fit_transform(np.zeros((1, 1)))[0, 0])
        """}, ("x + 1", "x + 2"), 1.0, 2.0,
    ),
    "a function in an object among the parameters of a step": (
        {"held_helpers": f"{MODEL}\nclass Box:\n    def __init__(self, f): self.f = f\ndef plus(x): return x + 1",
         "held_boxes": "import held_helpers\nBOX = held_helpers.Box(held_helpers.plus)", "held_steps": """
            import held_boxes
            def score(box=held_boxes.BOX): return box.f(1)
        """}, ("x + 1", "x + 2"), 2, 3,
    ),
}  # fmt: skip


@pytest.mark.parametrize("held", EDITS)
def test_an_edit_of_the_code_that_a_value_holds_has_its_user_run_again(held: str, project: Project, home: Home) -> None:
    files, (old, new), before, after = EDITS[held]
    assert ran(home, project(files)).outputs["score"] == before
    assert set(states(ran(home, project(files))).values()) == {"cached"}
    edited = {**files, "held_helpers": files["held_helpers"].replace(old, new)}

    assert planned(home, project(edited))["score"].state == "run"
    assert ran(home, project(edited)).outputs["score"] == after
    assert set(states(ran(home, project(edited))).values()) == {"cached"}


def test_a_value_that_crosses_a_step_unchanged_still_holds_its_code(project: Project, home: Home) -> None:
    steps = STEPS.replace("def score(train)", "def passed(train):\n    return train\n\ndef score(passed)")
    steps = steps.replace("train.predict", "passed.predict")
    ran(home, project({"held_helpers": MODEL, "held_steps": steps}))

    outcome = ran(home, project({"held_helpers": MODEL.replace("+ 1", "+ 3"), "held_steps": steps}))

    assert outcome.outputs["score"] == 23
    assert states(outcome) == {"train": "run", "passed": "run", "score": "run"}


def test_who_makes_a_value_depends_on_how_its_format_writes_it(project: Project, home: Home) -> None:
    files, _, _, _ = EDITS["a value with a format of the user's"]
    ran(home, project(files))
    other = files["held_helpers"].replace("str(picture.size).encode()", "f' {picture.size}'.encode()")

    assert planned(home, project({**files, "held_helpers": other}))["train"].state == "run"


FAN = """
import mainspring as ms
from held_helpers import Model

def sizes():
    return [1, 2, 3]

@ms.step(each={"size": "sizes"})
def models(size):
    return Model(size)

@ms.step(each={"model": "models"})
def scores(model):
    return model.predict(10)

def best(models):
    return max(model.predict(1) for model in models)
"""


def test_the_elements_of_a_fan_out_hold_their_code(project: Project, home: Home) -> None:
    files = {"held_helpers": MODEL, "held_steps": FAN}
    assert ran(home, project(files)).outputs["scores"] == [11, 21, 31]
    edited = {**files, "held_helpers": MODEL.replace("+ 1", "+ 2")}

    outcome = ran(home, project(edited))

    assert outcome.outputs["scores"] == [12, 22, 32] and outcome.outputs["best"] == 5
    assert set(states(ran(home, project(edited))).values()) == {"cached"}


def test_the_code_of_a_class_that_can_no_longer_be_found_is_never_a_hit(project: Project, home: Home) -> None:
    files = {"held_steps": """
        import sys, types
        def _made():
            module = types.ModuleType("held_by_nobody")
            exec("class Model:\\n    def predict(self): return 1", vars(module))
            return sys.modules.setdefault("held_by_nobody", module)
        _made()
        def train(): return _made().Model()
        def score(train): return train.predict()
    """}  # fmt: skip
    ran(home, project(files))

    step = planned(home, project(files))["score"]

    assert step.state == "run"
    assert any("held_by_nobody:Model can't be found" in note for note in step.widened)


def test_a_kept_run_knows_the_files_of_the_code_that_values_hold(project: Project, home: Home) -> None:
    files, _, _, _ = EDITS["an object whose module only its step imports"]
    ran(home, project(files))

    kept = unchanged(graph(project(files)), home=home, pipeline="held", parameters={})

    assert kept is not None
    assert "held_helpers.py" in {Path(text.path).name for text in kept.codebase.known()}


def test_a_library_whose_objects_a_value_holds_counts_by_its_version(project: Project, home: Home) -> None:
    files = {"held_steps": """
        def train():
            from sklearn.linear_model import LinearRegression
            return LinearRegression().fit([[0.0], [1.0]], [0.0, 1.0])
        def score(train): return float(train.predict([[2.0]])[0])
    """}  # fmt: skip
    ran(home, project(files))

    parts = Journal(home).latest("held")["score"].parts

    assert parts is not None and "scikit-learn" in parts["libraries"]


@pytest.mark.parametrize("made", ["pd.Timestamp('2020-01-01', tz='UTC')", "pd.DataFrame({'a': [1, 'x', None]})"])
def test_what_compiled_functions_of_a_library_make_again_is_cached(project: Project, home: Home, made: str) -> None:
    files = {"held_steps": f"import pandas as pd\ndef train(): return {made}\ndef score(train): return str(train)"}
    ran(home, project(files))

    assert states(ran(home, project(files))) == {"train": "cached", "score": "cached"}


def test_plain_values_note_nothing(project: Project, home: Home) -> None:
    ran(home, project({"held_steps": "def train(): return {'a': (1, 2.0, None)}\ndef score(train): return 1"}))

    record = Journal(home).latest("held")["score"]

    assert record.parts is not None and "held" not in record.parts and record.output is not None
    assert "code" not in record.output.to_json()


def test_what_a_step_altered_as_it_ran_is_no_edit(project: Project, home: Home) -> None:
    module = project({"held_helpers": """
        class Cache:
            made = 0
            def __init__(self):
                self.known = {}
                type(self).made += 1
            def get(self, x): return self.known.setdefault(x, x + 1)
        CACHE = Cache()
        def remembered(f):
            known = {}
            def g(x):
                known[x] = known.get(x) or f(x)
                return known[x]
            return g
        @remembered
        def twice(x): return 2 * x
    """, "held_numbers": """
        KNOWN = {}
        def number(x): return KNOWN.setdefault(x, len(KNOWN))
    """, "held_names": """
        KNOWN = {}
        def number(x): return KNOWN.setdefault(x, len(KNOWN))
    """, "held_steps": """
        import held_helpers, held_names, held_numbers
        def named(): return getattr(held_numbers, "number")(1) + vars(held_names)["number"](1)
        def train(): return held_helpers.Cache().get(1) + held_helpers.CACHE.get(held_helpers.twice(1))
        def score(train): return held_helpers.CACHE.get(train)
    """})  # fmt: skip
    ran(home, module)

    assert set(states(ran(home, module)).values()) == {"cached"}
    module.held_helpers.CACHE.known[4] = 9
    assert states(ran(home, module)) == {"named": "cached", "train": "run", "score": "run"}


def test_a_step_and_the_code_that_its_input_holds_may_call_two_files_by_one_name(
    project: Project, home: Home, tmp_path: Path
) -> None:
    held = "import mainspring\nclass Thing:\n    def get(self): return mainspring.file('x.csv').read_text()"
    steps = """
    import mainspring
    from held_inner.thing import Thing

    def made():
        return Thing()

    def used(made):
        return mainspring.file('x.csv').read_text() + made.get()
    """
    for folder in (tmp_path, tmp_path / "held_inner"):
        folder.mkdir(exist_ok=True)
        (folder / "x.csv").write_text("1")
    files = {"held_inner/__init__": "", "held_inner/thing": held, "held_steps": steps}
    ran(home, project(files))
    assert states(ran(home, project(files)))["used"] == "cached"

    for file, value in (("x.csv", "21"), ("held_inner/x.csv", "22")):
        (tmp_path / file).write_text("2")
        assert ran(home, project(files)).outputs["used"] == value
