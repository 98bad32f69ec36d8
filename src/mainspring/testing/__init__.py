"""For tests: a pipeline run in memory, faults on purpose, and contract suites: a plug-in's test is one line."""

from mainspring.testing.drift_test import check_drift_test
from mainspring.testing.executor import check_executor
from mainspring.testing.faults import Fault, damage, failing, killed, slow, with_faults
from mainspring.testing.features import check_features
from mainspring.testing.format import check_format
from mainspring.testing.metric import check_metric
from mainspring.testing.pipeline import assert_runs, run, would_run
from mainspring.testing.source import check_source

__all__ = [
    "Fault", "assert_runs", "check_drift_test", "check_executor", "check_features", "check_format", "check_metric",
    "check_source", "damage", "failing", "killed", "run", "slow", "with_faults", "would_run",
]  # fmt: skip
