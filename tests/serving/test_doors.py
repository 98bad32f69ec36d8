"""Every door gives the same answer for the same row, to the clients that people use, and puts it on record."""

from __future__ import annotations

import asyncio
import csv
import importlib
import io
import json
import sys
import types
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest
import tritonclient.http as triton
from bundled import INPUTS, ROWS, flights
from mlflow.deployments import get_deploy_client
from stand_in import Process

from mainspring.core.quiet import heard
from mainspring.store.records import Records

with heard():  # of MLflow's own type hints
    from mlflow.pyfunc.scoring_server.client import ScoringServerClient

__all__ = ["flights"]
NAMES = list(INPUTS.names)
KSERVE = Path(sys.prefix) / "kserve"


def post(process: Process, path: str, body: Any, **headers: str) -> httpx.Response:
    content = body if isinstance(body, str | bytes) else json.dumps(body)
    return httpx.post(process.url + path, content=content, headers=headers, timeout=10)


def expected(process: Process, rows: list[dict[str, Any]]) -> tuple[list[str], list[list[float]]]:
    """What /predict says of *rows*."""
    answer = post(process, "/predict/flights", {"rows": rows}).json()
    return answer["predictions"], answer["probabilities"]


def frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    return pd.DataFrame({name: pd.Series([row[name] for row in rows], dtype=object) for name in NAMES})


def split(rows: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    return {"dataframe_split": {"columns": NAMES, "data": [[row[name] for name in NAMES] for row in rows], **more}}


def table(rows: list[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerows([NAMES, *(["" if row[name] is None else row[name] for name in NAMES] for row in rows)])
    return text.getvalue()


MLFLOW: dict[str, Callable[[list[dict[str, Any]]], dict[str, Any]]] = {
    "split": split,
    "split with an index": lambda rows: split(rows, index=list(range(len(rows)))),
    "records": lambda rows: {"dataframe_records": rows},
    "instances": lambda rows: {"instances": rows},
    "instances in order": lambda rows: {"instances": [[row[name] for name in NAMES] for row in rows]},
    "inputs": lambda rows: {"inputs": {name: [row[name] for row in rows] for name in NAMES}},
}


@pytest.mark.parametrize("form", list(MLFLOW))
@pytest.mark.parametrize("path", ["/invocations", "/loops/flights/invocations", "/endpoints/flights/invocations"])
def test_mlflows_protocol_answers_as_predict_does(flights: Process, path: str, form: str) -> None:
    labels, _ = expected(flights, ROWS)
    answer = post(flights, path, MLFLOW[form](ROWS), **{"content-type": "application/json"})

    assert answer.json() == {"predictions": labels}
    assert recorded(flights, answer.headers["mainspring-ids"].split(",")) == labels


def test_csv_answers_as_predict_does(flights: Process) -> None:
    answer = post(flights, "/invocations", table(ROWS), **{"content-type": "text/csv"})

    assert answer.json() == {"predictions": expected(flights, ROWS)[0]}


def test_mlflows_scoring_client_works(flights: Process) -> None:
    client = ScoringServerClient("127.0.0.1", flights.sock.getsockname()[1])
    client.wait_server_ready(5)
    answer = client.invoke(frame(ROWS))

    assert answer.get_predictions(predictions_format="ndarray").tolist() == expected(flights, ROWS)[0]
    assert client.get_version().count(".") == 2


def test_missing_numbers_in_the_frame_of_mlflows_client_are_nan(flights: Process) -> None:
    """It writes them into its JSON as they are."""
    client = ScoringServerClient("127.0.0.1", flights.sock.getsockname()[1])
    sent = pd.DataFrame([{**ROWS[0], "delay": np.nan}, ROWS[0]])
    assert sent["delay"].dtype == float

    answer = client.invoke(sent).get_predictions(predictions_format="ndarray").tolist()

    assert answer == expected(flights, [{**ROWS[0], "delay": None}, ROWS[0]])[0]
    infinite = post(flights, "/invocations", '{"instances": [[NaN, Infinity]]}')
    assert infinite.status_code == 400 and "no Infinity: write null" in infinite.text


def test_mlflows_deployments_client_works(flights: Process) -> None:
    client = get_deploy_client(flights.url)

    assert client.predict(endpoint="flights", inputs={"dataframe_records": ROWS}) == {
        "predictions": expected(flights, ROWS)[0]
    }


@pytest.mark.parametrize("form", ["instances", "instances in order", "inputs"])
def test_kserves_first_protocol_answers_as_predict_does(flights: Process, form: str) -> None:
    answer = post(flights, "/v1/models/flights:predict", MLFLOW[form](ROWS))

    labels, _ = expected(flights, ROWS)
    assert answer.json() == {"predictions": labels}
    assert recorded(flights, answer.headers["mainspring-ids"].split(",")) == labels
    assert httpx.get(f"{flights.url}/").json() == {"status": "alive"}
    assert httpx.get(f"{flights.url}/v1/models").json() == {"models": ["flights"]}
    assert httpx.get(f"{flights.url}/v1/models/flights").json() == {"name": "flights", "ready": True}


# ------------------------------------------------------------------------------------ the Open Inference Protocol

DATATYPES = {"delay": "FP64", "distance": "INT64", "freight": "BOOL"}


def tensors(rows: list[dict[str, Any]], nested: bool = False) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "datatype": DATATYPES.get(name, "BYTES"),
            "shape": [len(rows), 1] if nested else [len(rows)],
            "data": [[row[name]] if nested else row[name] for row in rows],
        }
        for name in NAMES
    ]


def outputs(answer: dict[str, Any]) -> dict[str, Any]:
    return {output["name"]: output["data"] for output in answer["outputs"]}


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("headers", [{}, {"content-type": "application/json"}])
def test_tensors_in_json_answer_as_predict_does(flights: Process, nested: bool, headers: dict[str, str]) -> None:
    answer = post(flights, "/v2/models/flights/infer", {"id": "r7", "inputs": tensors(ROWS, nested)}, **headers).json()

    labels, shares = expected(flights, ROWS)
    said = outputs(answer)
    assert (answer["model_name"], answer["model_version"], answer["id"]) == ("flights", "1", "r7")
    assert [(each["name"], each["datatype"], each["shape"]) for each in answer["outputs"]] == [
        ("predictions", "BYTES", [3]), ("probabilities", "FP64", [3, 2]), ("ids", "BYTES", [3]),
    ]  # fmt: skip
    assert said["predictions"] == labels == recorded(flights, said["ids"])
    assert np.reshape(said["probabilities"], (3, 2)).tolist() == shares


def test_only_the_outputs_that_are_asked_for_are_told(flights: Process) -> None:
    body = {"inputs": tensors(ROWS), "outputs": [{"name": "probabilities"}]}
    answer = post(flights, "/v2/models/flights/versions/1/infer", body).json()

    assert [output["name"] for output in answer["outputs"]] == ["probabilities"] and "id" not in answer


def triton_inputs(rows: list[dict[str, Any]], binary: bool) -> list[triton.InferInput]:
    made = []
    for name in NAMES:
        kind = DATATYPES.get(name, "BYTES")
        dtype = {"FP64": np.float64, "INT64": np.int64, "BOOL": np.bool_}.get(kind, np.object_)
        tensor = triton.InferInput(name, [len(rows)], kind)
        tensor.set_data_from_numpy(np.array([row[name] for row in rows], dtype=dtype), binary_data=binary)
        made.append(tensor)
    return made


@pytest.mark.parametrize("binary_in", [False, True])
@pytest.mark.parametrize("binary_out", [False, True])
def test_tritons_client_works_in_json_and_binary(flights: Process, binary_in: bool, binary_out: bool) -> None:
    known = ROWS[:2]
    labels, shares = expected(flights, known)
    names = ("predictions", "probabilities", "ids")
    with triton.InferenceServerClient(flights.url.removeprefix("http://")) as client:
        wanted = [triton.InferRequestedOutput(name, binary_data=binary_out) for name in names]
        said = client.infer("flights", triton_inputs(known, binary_in), request_id="seven", outputs=wanted)
        everything = client.infer("flights", triton_inputs(known, binary_in), model_version="1")
        packed = client.infer("flights", triton_inputs(known, True), request_compression_algorithm="gzip")

    texts = [_text(each) for each in said.as_numpy("predictions")]
    assert texts == labels and said.as_numpy("probabilities").tolist() == shares
    assert said.get_response()["id"] == "seven" and said.get_response()["model_version"] == "1"
    assert recorded(flights, [_text(each) for each in said.as_numpy("ids")]) == labels
    assert everything.as_numpy("probabilities").tolist() == packed.as_numpy("probabilities").tolist() == shares


def test_tritons_client_reads_health_metadata_and_errors(flights: Process) -> None:
    with triton.InferenceServerClient(flights.url.removeprefix("http://")) as client:
        assert client.is_server_live() and client.is_server_ready()
        assert client.is_model_ready("flights") and client.is_model_ready("flights", "1")
        assert not client.is_model_ready("trains") and not client.is_model_ready("flights", "9")
        metadata = client.get_model_metadata("flights")
        assert client.get_server_metadata()["extensions"] == ["binary_tensor_data"]
        with pytest.raises(triton.InferenceServerException, match="row 0 lacks column"):
            client.infer("flights", triton_inputs(ROWS[:1], True)[1:])
        with pytest.raises(triton.InferenceServerException, match="no loop 'trains' is served here"):
            client.infer("trains", triton_inputs(ROWS[:1], True))

    assert metadata["versions"] == ["1"]
    assert {each["name"]: each["datatype"] for each in metadata["inputs"]} == {
        name: DATATYPES.get(name, "BYTES") for name in NAMES
    }
    assert [each["name"] for each in metadata["outputs"]] == ["predictions", "probabilities", "ids"]


def test_missing_values_in_binary_are_nan_or_the_text_that_the_request_names(flights: Process) -> None:
    row = {**ROWS[0], "delay": None, "carrier": None, "distance": None}
    sent = {"delay": np.nan, "carrier": "-", "distance": np.nan}
    inputs = []
    for name in NAMES:
        kind = "FP64" if name == "distance" else DATATYPES.get(name, "BYTES")
        dtype = {"FP64": np.float64, "BOOL": np.bool_}.get(kind, np.object_)
        inputs.append(triton.InferInput(name, [1], kind))
        inputs[-1].set_data_from_numpy(np.array([sent.get(name, row[name])], dtype=dtype))
    with triton.InferenceServerClient(flights.url.removeprefix("http://")) as client:
        said = client.infer("flights", inputs, parameters={"missing": "-"})

    assert said.as_numpy("probabilities").tolist() == expected(flights, [row])[1]


# ------------------------------------------------------------------------------------------------------ the records


def recorded(process: Process, ids: list[str]) -> list[str]:
    """The recorded labels of predictions *ids*; the rows that came with them stand beside them."""
    records = {record.id: record for record in Records(process.home, "flights").predictions()[0]}
    for identity, row in zip(ids, ROWS, strict=False):
        assert _stamps(records[identity].row) == _stamps({**row, "id": None})
    return [records[identity].label for identity in ids]


def _stamps(row: dict[str, Any]) -> dict[str, Any]:
    """MLflow's and pandas' writers may spell a time otherwise."""
    return {**row, "scheduled": row["scheduled"] and datetime.fromisoformat(row["scheduled"])}


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


# ------------------------------------------------------------------------------------------- KServe's REST client


@pytest.fixture(scope="module")
def kserve() -> Iterator[SimpleNamespace]:
    """The client's module and its requests', without the package's face, which imports the server too."""
    if not KSERVE.is_dir():
        pytest.skip("KServe's client is not there; `make .venv/ready` fetches it")
    package = types.ModuleType("kserve")
    package.__path__ = [str(KSERVE / "kserve")]
    before = set(sys.modules)
    sys.modules["kserve"] = package
    sys.path.append(str(KSERVE))
    client = importlib.import_module("kserve.inference_client")
    yield SimpleNamespace(client=client, requests=importlib.import_module("kserve.protocol.infer_type"))
    sys.path.remove(str(KSERVE))
    for name in set(sys.modules) - before:
        if name.partition(".")[0] == "kserve":
            del sys.modules[name]


def test_kserves_own_client_is_answered_by_its_first_protocol(kserve: SimpleNamespace, flights: Process) -> None:
    async def asked() -> tuple[bool, bool, Any]:
        client = kserve.client.InferenceRESTClient(kserve.client.RESTConfig(protocol="v1"))
        answer = await client.infer(flights.url, {"instances": ROWS[:2]}, model_name="flights")
        with pytest.raises(httpx.HTTPStatusError, match="422"):
            await client.infer(flights.url, {"instances": [{}]}, model_name="flights")
        live, ready = await client.is_server_live(flights.url), await client.is_model_ready(flights.url, "flights")
        await client.close()
        return live, ready, answer

    live, ready, answer = asyncio.run(asked())

    assert live and ready and answer == {"predictions": expected(flights, ROWS[:2])[0]}


@pytest.mark.parametrize("binary", [False, True])
def test_kserves_own_client_is_answered_by_its_second_protocol(
    kserve: SimpleNamespace, flights: Process, binary: bool
) -> None:
    def tensor(name: str) -> Any:
        values, kind = [row[name] for row in ROWS[:2]], DATATYPES.get(name, "BYTES")
        made = kserve.requests.InferInput(name, [2], kind)
        numpy = {"FP64": np.float64, "INT64": np.int64, "BOOL": np.bool_}.get(kind, np.object_)
        content = values if kind != "BYTES" else [str(value).encode() for value in values]
        made.set_data_from_numpy(np.array(content, dtype=numpy), binary_data=binary)
        return made

    async def asked() -> tuple[bool, bool, bool, Any]:
        client = kserve.client.InferenceRESTClient(kserve.client.RESTConfig(protocol="v2"))
        tensors = [tensor(name) for name in NAMES]
        request = kserve.requests.InferRequest(model_name="flights", request_id="k1", infer_inputs=tensors)
        answer = await client.infer(flights.url, request, model_name="flights")
        short = kserve.requests.InferRequest(model_name="flights", infer_inputs=tensors[1:])
        with pytest.raises(httpx.HTTPStatusError, match="422"):
            await client.infer(flights.url, short, model_name="flights")
        live, ready = await client.is_server_live(flights.url), await client.is_server_ready(flights.url)
        model_ready = await client.is_model_ready(flights.url, "flights")
        await client.close()
        return live, ready, model_ready, answer

    live, ready, model_ready, answer = asyncio.run(asked())

    assert live and ready and model_ready and answer.id == "k1"
    outputs = {each.name: each.as_numpy() for each in answer.outputs}
    assert outputs["probabilities"].tolist() == expected(flights, ROWS[:2])[1]
