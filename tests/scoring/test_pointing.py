import numpy as np
import pytest

from tune_btxrd.scoring.annotations import Lesion
from tune_btxrd.scoring.pointing import play, point


def lesion() -> Lesion:
    mask = np.zeros((4, 4), dtype=bool)
    mask[:2, :2] = True
    picture = np.ones((4, 4), dtype=bool)
    picture[3] = False
    return Lesion(mask=mask, picture=picture)


def test_points_by_hand():
    heat = np.zeros((4, 4))
    heat[0, 0], heat[2, 3], heat[3, 3] = 0.6, 0.4, 1.0  # the hottest pixel lies on the black border: not counted
    found = point("a", heat, lesion())
    assert found.hit and found.energy == pytest.approx(0.6) and found.chance == pytest.approx(4 / 12)
    assert not point("b", np.zeros((4, 4)), lesion()).hit and point("b", np.zeros((4, 4)), lesion()).energy == 0


def test_the_peak_of_a_plateau_is_its_middle():
    """A 2 x 2 map enlarged to 8 x 8 is flat towards its corners: the first highest pixel would be the corner."""
    heat = np.zeros((8, 8))
    heat[:3, :3] = 1
    mask = np.zeros((8, 8), dtype=bool)
    mask[1, 1] = True
    assert point("a", heat, Lesion(mask=mask, picture=np.ones((8, 8), dtype=bool))).hit


def test_uniform_heat_has_the_energy_of_chance():
    found = point("a", np.ones((4, 4)), lesion())
    assert found.energy == pytest.approx(found.chance)


def test_the_game_adds_up():
    heat = np.eye(4)
    game = play([point("a", heat, lesion()), point("b", heat[::-1], lesion()), point("c", np.zeros((4, 4)), lesion())])
    assert str(game.hits) == "1/3" and game.chance == pytest.approx(1 / 3)
    assert game.energy == pytest.approx((2 / 3 + 0 + 0) / 3)
    assert game.energy_interval.low <= game.energy <= game.energy_interval.high
    assert play([]) is None
