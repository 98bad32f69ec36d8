"""Steps on a Ray cluster, as a standard Executor. The only file that knows Ray."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any

from mainspring.core.errors import ServiceError, UsageError
from mainspring.execution.workers import WorkerDied

_STORE_BYTES = 150 * 2**20


class RayWork(Future[Any]):
    """Work on the cluster: a future that can be ended."""

    def __init__(self, reference: Any) -> None:
        super().__init__()
        self.reference = reference
        self.reason = ""
        self.set_running_or_notify_cancel()

    def kill(self, reason: str) -> None:
        """End the work; the future's error says *reason*."""
        import ray

        self.reason = self.reason or reason
        ray.cancel(self.reference, force=True)


class RayExecutor(Executor):
    """The cluster at *address*; unless told the one this process is connected to, or a small one on this machine.

    Raises UsageError when Ray isn't installed, ServiceError when the cluster doesn't answer.
    """

    def __init__(self, address: str | None = None) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            import ray
        except ImportError as error:
            raise UsageError("executor 'ray' needs Ray, which isn't installed; install mainspring[ray]") from error
        self._ours = not ray.is_initialized()
        if self._ours:
            own = {} if address else {"object_store_memory": _STORE_BYTES, "include_dashboard": False}
            try:
                ray.init(address, log_to_driver=False, logging_level="ERROR", **own)
            except (ConnectionError, RuntimeError, OSError, ValueError) as error:
                where = address or "on this machine"
                raise ServiceError(f"no Ray cluster {where} ({error}); start one with: ray start --head") from error
        self.width = max(1, int(ray.cluster_resources().get("CPU", 1)))
        self._call = ray.remote(max_retries=0)(_call)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> RayWork:
        """Call *fn* on the cluster."""
        work = RayWork(self._call.remote(fn, args, kwargs))
        work.reference.future().add_done_callback(lambda ended: _pass_on(ended, work))
        return work

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Leave the cluster, and end it when it was made for this executor."""
        import ray

        if self._ours and ray.is_initialized():
            ray.shutdown()


def _call(function: Callable[..., Any], arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
    return function(*arguments, **named)


def _pass_on(ended: Future[Any], work: RayWork) -> None:
    error = ended.exception()
    if error is None:
        work.set_result(ended.result())
        return
    cause = getattr(error, "cause", None)
    if isinstance(cause, Exception):
        work.set_exception(cause)
    else:
        work.set_exception(WorkerDied(work.reason or _words(error)))


def _words(error: BaseException) -> str:
    """Why Ray gave the work up, without its advice."""
    kind, line = type(error).__name__, next(iter(str(error).strip().splitlines()), "")
    reasons = {
        "WorkerCrashedError": "its process on the Ray cluster ended unexpectedly",
        "OutOfMemoryError": "Ray ended its process because the node was out of memory",
        "NodeDiedError": "its node of the Ray cluster died",
    }
    return reasons.get(kind, f"Ray gave it up ({kind}: {line[:200]})")
