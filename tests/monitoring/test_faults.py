"""Faults before the model are told apart from drift."""

from typing import Any

import polars as pl
import pytest

from mainspring.monitoring.faults import extra_columns, faults


def found(traffic: Any, change: Any = None, requests: int = 500, failed: int = 0) -> list[tuple[str, str | None]]:
    rows = traffic.rows(500)
    rows = rows if change is None else rows.with_columns(change)
    return [(fault.kind, fault.column) for fault in faults(traffic.watched().profile, rows, requests, failed)]


def test_healthy_windows_have_no_fault(traffic: Any) -> None:
    assert [found(traffic) for _ in range(20)] == [[]] * 20


def test_a_column_gone_empty_is_a_fault_and_three_points_are_not(traffic: Any) -> None:
    def holes(every: int) -> Any:
        return pl.when(pl.int_range(pl.len()) % every == 0).then(None).otherwise("city").alias("city")

    assert found(traffic, holes(2)) == [("missing", "city")]
    assert found(traffic, holes(33)) == []


@pytest.mark.parametrize("factor", [1000, 60, 0.1, 2.54, 1 / 3.6])
def test_a_changed_unit_is_a_fault(traffic: Any, factor: float) -> None:
    assert ("unit", "delay") in found(traffic, pl.col("delay") * factor)


@pytest.mark.parametrize("change", [pl.col("temp") + 3, pl.col("delay") * 1.4, pl.col("delay") + 50])
def test_a_shift_or_a_moderate_growth_is_drift_and_no_fault(traffic: Any, change: Any) -> None:
    assert found(traffic, change) == []


def test_failing_requests_are_an_outage(traffic: Any) -> None:
    assert found(traffic, requests=100, failed=60) == [("outage", None)]
    assert found(traffic, requests=1000, failed=20) == []
    assert found(traffic, requests=5, failed=5) == []


def test_extra_columns_are_noted() -> None:
    assert extra_columns(()) is None
    assert extra_columns(("a", "b")) == "2 columns not in the contract: a and b; ignored when predicting"
