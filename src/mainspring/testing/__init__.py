"""Contract suites for whoever adds a source, a metric, a drift test or a features function: its test is one line."""

from mainspring.testing.drift_test import check_drift_test
from mainspring.testing.features import check_features
from mainspring.testing.metric import check_metric
from mainspring.testing.source import check_source

__all__ = ["check_drift_test", "check_features", "check_metric", "check_source"]
