"""A model file of somebody else never runs code, whatever it is called and wherever it lies."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import pickle
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skops.io
from onnx import ModelProto, TensorProto, helper
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression

from mainspring.core.errors import BundleError, BundleUntrusted
from mainspring.packaging import foreign

SENTINEL = Path("ran")
"""What code of a hostile file would make, in the test's own folder."""


class Hostile:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, (f"open({str(SENTINEL)!r}, 'w').close()",)


def hostile(protocol: int = 5) -> bytes:
    return pickle.dumps(Hostile(), protocol=protocol)


def archived(**parts: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name.replace("__", "/").replace("_dot_", "."), content)
    return file.getvalue()


def foreign_type() -> bytes:
    """A skops file that asks for a function of the system."""
    schema = {"__class__": "system", "__module__": "os", "__loader__": "TypeNode", "__id__": 1, "protocol": 2,
              "_skops_version": "0.16"}  # fmt: skip
    return archived(schema_dot_json=json.dumps(schema).encode())


def outside() -> bytes:
    """An ONNX graph whose weights are another file."""
    weight = helper.make_tensor("w", TensorProto.FLOAT, [2, 1], [1.0, 2.0])
    weight.ClearField("float_data")
    weight.data_location = TensorProto.EXTERNAL
    place = weight.external_data.add()
    place.key, place.value = "location", "../../etc/passwd"
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["X", "w"], ["y"])], "g",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, [None, 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 1])], [weight],
    )  # fmt: skip
    content: bytes = helper.make_model(graph).SerializeToString()
    return content


CORPUS: dict[str, Callable[[], bytes]] = {
    **{f"a pickle, protocol {number}": (lambda number=number: hostile(number)) for number in range(6)},  # type: ignore[misc]
    "a pickle behind a byte of another": lambda: b"\x80\x04]." + hostile(),
    "a gzipped pickle, as joblib writes": lambda: gzip.compress(hostile()),
    "a zlib pickle, as joblib writes": lambda: zlib.compress(hostile()),
    "a bz2 pickle, as joblib writes": lambda: bz2.compress(hostile()),
    "a pickle in a zip, as torch writes": lambda: archived(model__data_dot_pkl=hostile()),
    "a pickle in a skops file": lambda: archived(schema_dot_json=b"{}", model_dot_pkl=hostile()),
    "a skops file that asks for os.system": foreign_type,
    "a zip that climbs": lambda: archived(______evil_dot_py=b"x"),
    "a pickle behind LightGBM's first line": lambda: b"tree\n" + hostile(),
    "a pickle behind JSON": lambda: b'{"learner"' + hostile(),
    "a pickle behind UBJ": lambda: b"{L" + hostile(),
    "a pickle behind protobuf": lambda: b"\x08" + hostile(),
    "an ONNX graph with weights elsewhere": outside,
    "Python source": lambda: b"open('ran', 'w')",
    "a template": lambda: b"{{ cycler.__init__.__globals__.os.system('touch ran') }}",
    "nothing": lambda: b"",
}
FLAVOURS = {
    "sklearn": ("pickled_model", "model.pkl"),
    "sklearn as skops": ("pickled_model", "model.skops"),
    "lightgbm": ("data", "model.lgb"),
    "xgboost": ("data", "model.ubj"),
    "onnx": ("data", "model.onnx"),
    "sklearn as zip": ("pickled_model", "model.zip"),
}


def saved(folder: Path, content: bytes, flavour: str = "sklearn", more: str = "") -> Path:
    """An MLflow model whose file has *content*."""
    key, name = FLAVOURS[flavour]
    folder.mkdir()
    (folder / name).write_bytes(content)
    (folder / "MLmodel").write_text(f"flavors:\n  {flavour.partition(' ')[0]}:\n    {key}: {name}\n{more}")
    return folder


@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize("what", CORPUS)
def test_no_hostile_file_runs_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, flavour: str) -> None:
    monkeypatch.chdir(tmp_path)

    with pytest.raises(BundleError):
        foreign.read(saved(tmp_path / "model", CORPUS[what](), flavour), trust=False)

    assert not SENTINEL.exists()


@pytest.mark.parametrize(
    "text",
    [
        "flavors: !!python/object/apply:os.system ['touch ran']",
        "flavors:\n  sklearn: !!python/object/new:os.system ['touch ran']",
        "flavors: !!python/name:os.system",
        "flavors: [" * 3000,
        "flavors:\n  sklearn:\n    pickled_model: ../outside.pkl",
        "flavors:\n  sklearn:\n    pickled_model: /etc/passwd",
        "flavors:\n  python_function:\n    loader_module: os",
        "- a list",
        "",
    ],
)
def test_no_description_runs_code_or_leaves_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "outside.pkl").write_bytes(hostile())
    folder = saved(tmp_path / "model", hostile())
    (folder / "MLmodel").write_text(text)

    with pytest.raises(BundleError):
        foreign.read(folder, trust=True)

    assert not SENTINEL.exists()


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "outside.pkl").write_bytes(hostile())
    folder = saved(tmp_path / "model", b"")
    (folder / "more.pkl").symlink_to(tmp_path / "outside.pkl")

    with pytest.raises(BundleUntrusted, match="link"):
        foreign.read(folder, trust=True)


def test_a_pickle_is_read_only_at_a_persons_word(tmp_path: Path) -> None:
    model = LogisticRegression().fit([[0.0], [1.0]], [0, 1])
    folder = saved(tmp_path / "model", pickle.dumps(model))

    with pytest.raises(BundleUntrusted, match="--trust"):
        foreign.read(folder, trust=False)
    found = foreign.read(folder, trust=True)

    assert (found.form, found.trusted, found.model.predict([[1.0]]).tolist()) == ("pickle", True, [1])


def test_a_crafted_tree_is_refused(tmp_path: Path) -> None:
    """It would read memory that isn't its own."""
    draw = np.random.default_rng(0)
    model = RandomForestClassifier(2, max_depth=2, random_state=0).fit(draw.normal(size=(50, 2)), draw.random(50) < 0.5)
    tree = model.estimators_[0].tree_
    state = tree.__getstate__()
    state["nodes"]["left_child"][0] = 1_000_000
    tree.__setstate__(state)

    with pytest.raises(BundleUntrusted, match="tree"):
        foreign.read(saved(tmp_path / "model", skops.io.dumps(model)), trust=False)


def test_the_bytes_decide_whatever_the_file_is_called(tmp_path: Path) -> None:
    model = LinearRegression().fit([[0.0], [1.0]], [0.0, 2.0])
    found = foreign.read(saved(tmp_path / "model", skops.io.dumps(model), "onnx"), trust=False)

    assert found.form == "skops" and found.model.predict([[2.0]]).tolist() == pytest.approx([4.0])


def test_a_graph_of_other_shape_says_what_is_served(tmp_path: Path) -> None:
    content = outside()
    graph = ModelProto.FromString(content).graph
    graph.input[0].type.tensor_type.shape.dim.add().dim_value = 3
    del graph.initializer[:]
    graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [3, 1]))

    with pytest.raises(BundleError, match="one matrix"):
        foreign.read(saved(tmp_path / "model", helper.make_model(graph).SerializeToString(), "onnx"), trust=False)
