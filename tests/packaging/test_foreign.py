"""A model file of somebody else never runs code, whatever it is called and wherever it lies."""

from __future__ import annotations

import bz2
import gzip
import importlib
import io
import json
import pickle
import sys
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
from mainspring.store.onnx_graph import OnnxGraph
from mainspring.store.own_code import OwnCode

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


def test_a_graph_of_several_numbers_a_row_is_refused(tmp_path: Path) -> None:
    """Logits, such as a network answers without a softmax."""
    model = ModelProto.FromString(outside())
    weight = model.graph.initializer[0]
    weight.CopyFrom(helper.make_tensor("w", TensorProto.FLOAT, [2, 3], [1.0] * 6))
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 3
    del model.opset_import[:]
    model.opset_import.append(helper.make_opsetid("", 21))
    model.ir_version = 10

    with pytest.raises(BundleError, match="3 numbers a row"):
        foreign.read(saved(tmp_path / "model", model.SerializeToString(), "onnx"), trust=False)


# ------------------------------------------------------------------------------------------- models of their own code

TWO = ("a", "b")
COLUMNS = json.dumps([{"type": "double", "name": name} for name in TWO])
TRAP = f"open({str(SENTINEL)!r}, 'w').close()\n"


def of_code(folder: Path, flavour: str, config: str, columns: str = COLUMNS, **files: bytes) -> Path:
    """An MLflow model with *files* ("data__model_dot_pth": bytes), its code folder full of traps."""
    for name, content in {"code__net_dot_py": TRAP.encode(), "loader_dot_py": TRAP.encode(), **files}.items():
        path = folder / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (folder / "MLmodel").write_text(
        f"flavors:\n  {flavour}:\n    code: code\n{config}\nsignature:\n  inputs: '{columns}'\n"
    )
    return folder


TRAPS: dict[str, tuple[str, str, dict[str, bytes]]] = {
    "torch's pickle": ("pytorch", "    model_data: data", {"data__model_dot_pth": hostile()}),
    "torch's archive": (
        "pytorch", "    model_data: data", {"data__model_dot_pth": archived(model__data_dot_pkl=hostile())}
    ),
    "an exported program": ("pytorch", "    model_data: data", {"data__model_dot_pt2": hostile()}),
    "the pickle's module": (
        "pytorch", "    model_data: data",
        {"data__model_dot_pth": hostile(), "data__pickle_module_info_dot_txt": b"loader"},
    ),
    "a python model": (
        "python_function", "    loader_module: mlflow.pyfunc.model\n    python_model: model.pkl",
        {"model_dot_pkl": hostile()},
    ),
    "a model from code": (
        "python_function", "    loader_module: mlflow.pyfunc.loaders.code_model\n    model_code_path: loader.py", {}
    ),
    "a loader in the code folder": ("python_function", "    loader_module: net", {}),
}  # fmt: skip


@pytest.mark.parametrize("what", TRAPS)
def test_a_models_own_code_runs_only_at_a_persons_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.chdir(tmp_path)
    flavour, config, files = TRAPS[what]

    with pytest.raises(BundleUntrusted, match="--trust"):
        foreign.read(of_code(tmp_path / "model", flavour, config, **files), trust=False)

    assert not SENTINEL.exists()


def test_a_module_needs_torch_which_an_extra_installs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    folder = of_code(tmp_path / "model", "pytorch", "    model_data: data", data__model_dot_pth=b"")

    with pytest.raises(BundleError, match=r"mainspring\[torch\]"):
        foreign.read(folder, trust=True)


NET = b"""
from torch import nn

class Net(nn.Module):
    def __init__(self, width, last):
        super().__init__()
        self.chain = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Dropout(), nn.Linear(4, width), *last)

    def forward(self, rows):
        return self.chain(rows)
"""


def of_torch(folder: Path, thing: Any, columns: str = COLUMNS) -> Path:
    import torch

    file = io.BytesIO()
    torch.save(thing, file)
    config = "    model_data: data"
    return of_code(folder, "pytorch", config, columns, code__net_dot_py=NET, data__model_dot_pth=file.getvalue())


def test_a_torch_module_becomes_a_graph_that_answers_as_it_did(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    (tmp_path / "net.py").write_bytes(NET)
    with OwnCode(tmp_path).at_hand():
        made = importlib.import_module("net").Net
        classes, double, logits = made(3, [torch.nn.Softmax(dim=1)]).eval(), made(1, []).double().eval(), made(3, [])
        folders = [of_torch(tmp_path / f"model{place}", each) for place, each in enumerate((classes, double, logits))]
    matrix = np.random.default_rng(0).normal(size=(9, 2))

    probable, number = (foreign.read(folder, trust=True) for folder in folders[:2])
    with torch.no_grad():
        expected = classes(torch.from_numpy(matrix).float()).numpy(), double(torch.from_numpy(matrix)).numpy()

    assert isinstance(probable.model, OnnxGraph) and "probabilities" in probable.assumed
    assert np.allclose(probable.model.predict_proba(matrix), expected[0], atol=1e-6)
    assert probable.model.predict(matrix).tolist() == expected[0].argmax(axis=1).tolist()
    assert np.allclose(number.model.predict(matrix), expected[1].ravel()) and "that number" in number.assumed
    assert "net" not in sys.modules and number.inputs is not None and number.inputs.names == TWO
    with pytest.raises(BundleError, match="Softmax"):
        foreign.read(folders[2], trust=True)
    (folders[0] / "code" / "net.py").unlink()
    with pytest.raises(BundleError, match="code_paths"):
        foreign.read(folders[0], trust=True)


def test_what_is_no_module_of_one_matrix_is_refused(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    linear, words = torch.nn.Linear(2, 1), json.dumps([{"type": "string", "name": "a"}])

    for name, thing, columns, reason in (
        ("weights", linear.state_dict(), COLUMNS, "weights only"),
        ("list", [1], COLUMNS, "holds a list"),
        ("words", linear, words, "'a' is no number"),
        ("width", linear, json.dumps([{"type": "double", "name": "a"}]), "can't answer 256 rows"),
        ("silent", linear, "[]", "columns"),
    ):
        with pytest.raises(BundleError, match=reason):
            foreign.read(of_torch(tmp_path / name, thing, columns), trust=True)
