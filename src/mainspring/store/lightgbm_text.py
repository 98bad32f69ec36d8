"""A LightGBM booster in LightGBM's own text format, as an estimator. lightgbm loads when it first answers."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from mainspring.core.errors import BundleError


class LightgbmText:
    """What a `lightgbm.Booster` predicts, as scikit-learn's estimators say it.

    text: the model file. classes_: positions of the classes; regression has none.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        told = dict(line.split("=", 1) for line in text.partition("\nTree=")[0].splitlines() if "=" in line)
        objective = told.get("objective", "").partition(" ")[0]
        self.n_features_in_ = int(told.get("max_feature_idx", "-1")) + 1
        self.feature_names_in_ = np.array(told.get("feature_names", "").split(" "), dtype=object)
        if objective in ("binary", "cross_entropy"):
            self.classes_ = np.arange(2)
        elif objective in ("multiclass", "multiclassova"):
            self.classes_ = np.arange(int(told["num_class"]))
        elif objective in ("", "lambdarank", "rank_xendcg", "custom"):
            raise BundleError(f"LightGBM's objective {objective or 'of your own'!r} isn't served; use a usual one")
        if (categories := text.rpartition("\npandas_categorical:")[2].strip()) not in ("[]", "null", text.strip()):
            raise BundleError(
                f"the booster was fitted on pandas categories ({categories[:60]}); log the pipeline instead"
            )
        self._booster()

    def predict(self, matrix: Any) -> npt.NDArray[Any]:
        if hasattr(self, "classes_"):
            likeliest: npt.NDArray[Any] = self.classes_[np.argmax(self._probabilities(matrix), axis=1)]
            return likeliest
        values: npt.NDArray[Any] = np.asarray(self._booster().predict(np.asarray(matrix)))
        return values

    def contributions(self, matrix: Any) -> npt.NDArray[Any]:
        """What each column adds to an answer, and the base, as LightGBM counts them."""
        return np.asarray(self._booster().predict(np.asarray(matrix), pred_contrib=True))

    def __getattr__(self, name: str) -> Any:
        """`predict_proba` is there for classes only, as in scikit-learn."""
        if name == "predict_proba" and "classes_" in self.__dict__:
            return self._probabilities
        raise AttributeError(name)

    def _probabilities(self, matrix: Any) -> npt.NDArray[np.float64]:
        said = np.asarray(self._booster().predict(np.asarray(matrix)))
        return np.column_stack([1 - said, said]) if said.ndim == 1 else said

    def _booster(self) -> Any:
        found = self.__dict__.get("_loaded")
        if found is None:
            import lightgbm  # the optional library's door

            found = self.__dict__["_loaded"] = lightgbm.Booster(model_str=self.text)
        return found

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_loaded"}
