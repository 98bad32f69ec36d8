"""A model with code of its own, as MLflow's pyfunc keeps it, as an estimator. MLflow loads it when it first answers."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mainspring.core.errors import BundleError, InvalidRows
from mainspring.core.quiet import heard
from mainspring.store import registry
from mainspring.store.own_code import OwnCode
from mainspring.store.unpacked import unpacked

_WHOLE = {"integer": "int32", "long": "int64", "boolean": "bool"}
_TYPES = {**_WHOLE, "float": "float32", "double": "float64", "datetime": "datetime64[ns]", "string": "object"}
"""MLflow's types as pandas': it takes no others for them."""


@dataclass(frozen=True, slots=True)
class _Loaded:
    model: Any
    code: OwnCode


class MlflowPyfunc:
    """The model in an MLflow folder, held as its *files*. Whoever loads it runs its author's code.

    code: which folder of the files has its modules, if one has. types: the MLflow type of each of its columns, or the
    numpy type of its matrix. classes_: its labels; a model that answers numbers has none.
    """

    def __init__(self, files: Mapping[str, bytes], code: str | None, types: Mapping[str, str] | str) -> None:
        self.files, self.code, self.types = dict(sorted(files.items())), code, types

    def predict(self, matrix: Any) -> npt.NDArray[Any]:
        """One number or label a row; raises BundleError where it answers otherwise."""
        answers = self._answers(matrix)
        if not hasattr(self, "classes_"):
            return answers
        known = self.classes_.tolist()
        if strange := [each for each in answers.tolist() if each not in known]:
            raise BundleError(f"the pyfunc model answers {strange[0]!r}, which is none of its classes {known[:10]}")
        return answers.astype(self.classes_.dtype)

    def learn_classes(self, matrix: Any, known: Sequence[Any]) -> None:
        """Whether it answers labels, and which, is told by its answers on *matrix*, or by the loop's *known* ones."""
        answers = self._answers(matrix)
        if known or answers.dtype.kind not in "iuf":
            self.classes_ = np.array(known or _labels(answers))

    def load(self) -> Any:
        """MLflow's model and its code, from a folder that lives as long as this object."""
        with _loading:
            found = _LOADED.get(self)
            if found is None:
                found = _LOADED[self] = self._load()
        return found

    def _answers(self, matrix: Any) -> npt.NDArray[Any]:
        table, loaded = self._table(matrix), self.load()
        with loaded.code.at_hand(), heard():
            return _one_a_row(loaded.model.predict(table), len(table))

    def _table(self, matrix: Any) -> Any:
        """*matrix* with the types that the model's signature says."""
        if isinstance(self.types, str):
            return np.asarray(matrix).astype(self.types)
        import pandas as pd

        made = matrix if isinstance(matrix, pd.DataFrame) else pd.DataFrame(matrix, columns=list(self.types))
        for name, kind in self.types.items():
            if kind in _WHOLE and made[name].isna().any():
                raise InvalidRows(f"column {name!r} has no value in a row, but the model takes none without; give one")
        return made.astype({name: _TYPES[kind] for name, kind in self.types.items() if kind in _TYPES})

    def _load(self) -> _Loaded:
        registry.settle()
        with heard():  # of MLflow about its own libraries
            import mlflow.pyfunc

        folder = unpacked(self.files, self)
        code = OwnCode(folder / self.code if self.code else None)
        try:
            with code.at_hand(), heard():
                return _Loaded(mlflow.pyfunc.load_model(str(folder), suppress_warnings=True), code)
        except Exception as error:  # MLflow's, or whatever the model's own code raises
            reason = (str(error).strip().splitlines() or ["no message"])[0][:200]
            raise BundleError(
                f"the pyfunc model can't be loaded ({type(error).__name__}: {reason}); install what its "
                "requirements.txt names, or log it with code_paths=[...]"
            ) from error


_LOADED: weakref.WeakKeyDictionary[MlflowPyfunc, _Loaded] = weakref.WeakKeyDictionary()
"""Beside the objects, which are looked through for the user's functions and are pickled."""
_loading = threading.Lock()


def _one_a_row(said: Any, rows: int) -> npt.NDArray[Any]:
    values = np.asarray(said)
    if values.shape not in ((rows,), (rows, 1)):
        raise BundleError(
            f"the pyfunc model answers {type(said).__name__} of shape {values.shape} for {rows} rows; one number or "
            "label a row is served"
        )
    return values.reshape(-1)


def _labels(answers: npt.NDArray[Any]) -> list[Any]:
    found = answers.tolist()
    if len({type(each) for each in found}) != 1 or not isinstance(found[0], str | bool):
        raise BundleError(f"the pyfunc model answers {found[0]!r}; a number, a text or a truth value is served")
    if len(labels := sorted(set(found))) < 2:
        raise BundleError(
            f"the pyfunc model answers {found[0]!r} on all {len(found)} rows, and its classes are known by its answers "
            "only; give more rows with --rows"
        )
    return labels
