"""The choice of a layout from what was measured."""

from tune_btxrd.search.measure import choose


def test_more_slots_win_where_the_rates_are_close() -> None:
    one, two = (0.36, 1, 2, 2.8), (0.32, 2, 1, 6.3)
    assert choose([two, one]) == two  # 0.32 >= 0.85 * 0.36


def test_a_clearly_faster_layout_wins() -> None:
    one, two = (0.50, 1, 2, 2.0), (0.32, 2, 1, 6.3)
    assert choose([two, one]) == one
