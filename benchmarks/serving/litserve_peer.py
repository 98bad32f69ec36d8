"""The model behind LitServe, whose processes must be able to import what they run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import litserve

from benchmarks.serving import peers


class Api(litserve.LitAPI):  # type: ignore[misc,name-defined]
    """Answers by the model in the folder *model*."""

    def __init__(self, model: Path) -> None:
        super().__init__()
        self._model = model

    def setup(self, device: str) -> None:
        self._answer = peers.answered(self._model)

    def predict(self, body: Any) -> Any:
        return self._answer(body["rows"])


def serve(port: int, model: Path) -> None:
    """Until the process ends."""
    litserve.LitServer(Api(model), accelerator="cpu").run(port=port, log_level="warning", generate_client_file=False)
