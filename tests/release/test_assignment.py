"""Assignment is sticky, fair, and keeps every unit when the share grows."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mainspring.statistics.assignment import assigned, position

shares = st.floats(0.0, 1.0)


@given(st.text(), st.text(), shares)
def test_a_unit_gets_the_same_answer_for_ever(salt: str, unit: str, share: float) -> None:
    assert assigned(salt, unit, share) == assigned(salt, unit, share)


@given(st.text(), st.text(), shares, shares)
def test_a_growing_share_keeps_every_unit(salt: str, unit: str, one: float, other: float) -> None:
    small, large = sorted((one, other))

    assert not assigned(salt, unit, small) or assigned(salt, unit, large)


@given(st.text(), st.text())
def test_nobody_is_in_a_share_of_nothing_and_everybody_in_all(salt: str, unit: str) -> None:
    assert not assigned(salt, unit, 0.0)
    assert assigned(salt, unit, 1.0)
    assert 0.0 <= position(salt, unit) < 1.0


def test_a_share_takes_its_part_of_the_units_and_salts_are_independent() -> None:
    first = [assigned("a", str(unit), 0.1) for unit in range(20_000)]
    second = [assigned("b", str(unit), 0.1) for unit in range(20_000)]
    both = sum(one and other for one, other in zip(first, second, strict=True))

    assert abs(sum(first) - 2000) < 170, "four standard deviations"
    assert abs(both - 200) < 57
