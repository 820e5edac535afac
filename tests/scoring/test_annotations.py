"""Annotations: where a lesion lies on the model's input, whatever LabelMe version, encoding, shape and orientation."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tune_btxrd.data.cache.decode import decode_image
from tune_btxrd.errors import DataError
from tune_btxrd.scoring.annotations import read_lesion, read_lesions


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
    with pytest.raises(DataError, match="must name imageWidth"):
        read_lesion(tmp_path / "a.json", 10)


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    return float((one & other).sum() / (one | other).sum())


def blob(folder: Path, orientation: int) -> tuple[Path, np.ndarray]:
    """A picture of 200 x 100 px with a bright blob, stored as the EXIF orientation says; the blob decoded."""
    pixels = np.zeros((100, 200), dtype=np.uint8)
    pixels[20:50, 120:180] = 255
    image, exif = Image.fromarray(pixels), Image.Exif()
    exif[0x0112] = orientation
    path = folder / f"{orientation}.png"
    image.save(path, exif=exif)
    return path, decode_image(path, 200) > 128


BLOB = [[120, 20], [179, 20], [179, 49], [120, 49]]  # on the stored picture


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_an_outline_on_the_stored_picture_is_turned_with_it(tmp_path, orientation):
    image, seen = blob(tmp_path, orientation)
    path = annotate(tmp_path / "a.json", [("polygon", BLOB)], width=200, height=100)
    assert overlap(read_lesion(path, 200, image=image).mask, seen) > 0.9


def test_an_outline_on_the_upright_picture_stays(tmp_path):
    image, seen = blob(tmp_path, 6)  # upright: 100 x 200 px, the stored (x, y) at (100 - y, x)
    outline = [[100 - y, x] for x, y in BLOB]
    path = annotate(tmp_path / "a.json", [("polygon", outline)], width=100, height=200)
    assert overlap(read_lesion(path, 200, image=image).mask, seen) > 0.9
    larger = [[x * 3, y * 3] for x, y in outline]  # drawn before the picture was made smaller
    path = annotate(tmp_path / "b.json", [("polygon", larger)], width=300, height=600)
    assert overlap(read_lesion(path, 200, image=image).mask, seen) > 0.9


def test_an_annotation_of_another_picture_is_left_out_aloud(tmp_path):
    image, _ = blob(tmp_path, 1)
    good = annotate(tmp_path / "good.json", [("polygon", BLOB)], width=200, height=100)
    wrong = annotate(tmp_path / "wrong.json", [("polygon", BLOB)], width=100, height=200)
    with pytest.raises(DataError, match=r"wrong\.json says 100 x 200 px and the picture has 200 x 100"):
        read_lesion(wrong, 200, image=image)
    read = read_lesions([good, None, wrong], [image] * 3, 200)
    assert list(read.found) == [0] and read.notes[0].startswith("Left out: An annotation must belong to its picture")
    many = read_lesions([wrong] * 9, [image] * 9, 200)
    assert len(many.notes) == 6 and many.notes[-1] == "Left out: 4 more annotations."


def test_shapes(tmp_path):
    def area(kind: str | None, points: list[list[float]]) -> int:
        lesion = read_lesion(annotate(tmp_path / "a.json", [(kind, points)], width=100, height=100), 100)
        return 0 if lesion is None else int(lesion.mask.sum())

    square = [[20, 20], [60, 20], [60, 60], [20, 60]]
    assert area("polygon", square) == area("rectangle", square) == area("rectangle", [[20, 20], [60, 60]]) == 41 * 41
    assert area(None, square) == 41 * 41, "old files name no type"
    assert area("circle", [[50, 50], [50, 70]]) == pytest.approx(np.pi * 20**2, rel=0.1)
    assert area("line", [[0, 0], [99, 99]]) == area("point", [[5, 5]]) == area("polygon", [[0, 0], [9, 9]]) == 0
    for kind, points in (
        ("rectangle", square[:3]),
        ("polygon", [[1, 2, 3]] * 3),
        ("blob", square),
        ("polygon", [[0, 1e999]] * 3),
    ):
        with pytest.raises(DataError, match="must be a LabelMe file"):
            area(kind, points)
    assert area("polygon", [[-1e300, 0], [1e300, 0], [50, 1e300]]) > 0


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "gb18030", "latin-1"])
def test_encodings(tmp_path, encoding):
    label = "Müller" if encoding == "latin-1" else "骨肉瘤"
    shape = {"label": label, "shape_type": "polygon", "points": [[0, 0], [9, 0], [9, 9]]}
    text = json.dumps({"shapes": [shape], "imageWidth": 10, "imageHeight": 10}, ensure_ascii=False)
    (tmp_path / "a.json").write_bytes(text.encode(encoding))
    assert read_lesion(tmp_path / "a.json", 10) is not None


@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", "1", "{", '{"shapes": 3}', '{"shapes": [1], "imageWidth": 1, "imageHeight": 1}', "[" * 100_000),
        *('{"shapes": [], "imageWidth": 0, "imageHeight": 9}', '{"shapes": [], "imageWidth": "x", "imageHeight": 9}'),
    ],
)
def test_what_is_no_labelme_file_is_one_line(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(DataError, match="An annotation must") as error:
        read_lesion(tmp_path / "a.json", 10)
    assert "\n" not in str(error.value)


def test_without_a_size_the_picture_has_it(tmp_path):
    image, seen = blob(tmp_path, 1)
    shape = {"label": "x", "shape_type": "polygon", "points": BLOB}
    (tmp_path / "a.json").write_text(json.dumps({"shapes": [shape]}))
    assert overlap(read_lesion(tmp_path / "a.json", 200, image=image).mask, seen) > 0.9
