import json
from pathlib import Path

import numpy as np
import pytest

from tune_btxrd.errors import DataError
from tune_btxrd.scoring.pointing import Lesion, play, point, read_lesion


def annotate(path: Path, shapes: list[tuple[str, list[list[float]]]], *, width: int, height: int) -> Path:
    listed = [{"label": "x", "shape_type": kind, "points": points} for kind, points in shapes]
    path.write_text(json.dumps({"shapes": listed, "imageWidth": width, "imageHeight": height}))
    return path


def test_a_square_lands_where_the_decoder_puts_it(tmp_path):
    """200 x 100 px to 20: scale 0.1, so 20 x 10 px from row 5 on. The square 40..80 x 20..60 becomes 4..8 x 7..11."""
    outline = [[40, 20], [80, 20], [80, 60], [40, 60]]
    lesion = read_lesion(annotate(tmp_path / "a.json", [("polygon", outline)], width=200, height=100), 20)
    rows, columns = np.nonzero(lesion.mask)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (7, 11, 4, 8)
    assert lesion.picture.sum() == 200 and lesion.picture[5:15].all()
    assert lesion.chance == lesion.mask.sum() / 200


def test_a_box_counts_only_without_an_outline(tmp_path):
    box = ("rectangle", [[0, 0], [99, 99]])
    alone = read_lesion(annotate(tmp_path / "a.json", [box], width=100, height=100), 10)
    both = read_lesion(
        annotate(tmp_path / "b.json", [box, ("polygon", [[0, 0], [20, 0], [0, 20]])], width=100, height=100), 10
    )
    assert alone.mask.all() and 0 < both.mask.sum() < 10
    assert read_lesion(annotate(tmp_path / "c.json", [], width=100, height=100), 10) is None


def test_a_damaged_annotation_is_one_line(tmp_path):
    (tmp_path / "a.json").write_text('{"shapes": []}')
    with pytest.raises(DataError, match="must be a LabelMe file"):
        read_lesion(tmp_path / "a.json", 10)


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
