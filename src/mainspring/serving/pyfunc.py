"""A bundle as an MLflow model: `mlflow.pyfunc.load_model("models:/late-flights@champion")`, in any folder.

predict(frame) gives the predicted labels (or numbers) as a numpy array, as scikit-learn users expect;
predict(frame, params={"method": "predict_proba"}) the probabilities, rows x classes in the order of `classes`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from mainspring.core.errors import InvalidRequest
from mainspring.core.schema import Type
from mainspring.serving import runtime
from mainspring.serving.runtime import Runtime
from mainspring.store.protection import protection_of


class BundleModel:
    """What MLflow calls. classes: the order of the probabilities' columns."""

    def __init__(self, served: Runtime) -> None:
        self._runtime, self._protection = served, protection_of(served.manifest.inputs)
        self.classes = served.manifest.classes

    def predict(self, model_input: Any, params: dict[str, Any] | None = None) -> npt.NDArray[Any]:
        """The answers for a pandas frame (or anything that a frame can be made of)."""
        method = (params or {}).get("method", "predict")
        rows = self._protection.frame(self._rows(model_input))
        absent = self._runtime.manifest.optional - set(rows.columns)
        said = self._runtime.predict(rows.with_columns(pl.lit(None).alias(name) for name in absent))
        if method == "predict_proba" and said.probabilities is not None:
            return said.probabilities
        if method != "predict":
            can = "predict, predict_proba" if said.probabilities is not None else "predict"
            raise InvalidRequest(f"method {method!r} is unknown to this model; it can {can}")
        return np.asarray(said.values if said.labels is None else said.labels)

    def _rows(self, model_input: Any) -> pl.DataFrame:
        if isinstance(model_input, pl.DataFrame):
            return model_input
        if hasattr(model_input, "iloc"):
            rows: pl.DataFrame = pl.from_pandas(_texts_kept(model_input, self._text_columns()), include_index=False)
            return rows
        return pl.DataFrame(model_input)

    def _text_columns(self) -> list[str]:
        return [column.name for column in self._runtime.manifest.inputs if column.type is Type.TEXT]


def _texts_kept(frame: Any, names: list[str]) -> Any:
    """pandas reads a column without any text as numbers that aren't: it is empty text."""
    empty = [name for name in names if name in frame.columns and frame[name].isna().all()]
    return frame.assign(**dict.fromkeys(empty)) if empty else frame


def _load_pyfunc(path: str) -> BundleModel:
    """MLflow's entry point: the model in the downloaded bundle at *path*, its signature checked first."""
    return BundleModel(runtime.load(Path(path)))
