"""The phantom: BTXRD's layout and shares, the same bytes every time, and no class in the brightness of a whole image."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tests.support.paths import SHARED
from tune_btxrd.data.phantom import PhantomSpec, make_phantom
from tune_btxrd.data.phantom.body import REGIONS
from tune_btxrd.data.phantom.cases import COLUMNS, plan_cases
from tune_btxrd.data.phantom.film import match_tones
from tune_btxrd.data.phantom.picture import draw_picture
from tune_btxrd.data.phantom.raster import Canvas, closed_curve, ellipse
from tune_btxrd.errors import ConfigError, DataError

RELEASED = SHARED / "btxrd_tables" / "dataset.xlsx"
SPEC = PhantomSpec(count=24, size=160, seed=3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "phantom"
    make_phantom(root, SPEC)
    return root


def read(folder: Path) -> pd.DataFrame:
    return pd.read_excel(folder / "dataset.xlsx")


def test_the_table_has_the_released_columns(folder: Path) -> None:
    if not RELEASED.is_file():
        pytest.skip(f"needs {RELEASED}, which is not here")
    released = pd.read_excel(RELEASED)
    assert list(read(folder).columns) == list(released.columns)
    assert read(folder).dtypes.astype(str).tolist() == released.dtypes.astype(str).tolist()


def test_shares_of_classes_and_centers_are_those_of_btxrd() -> None:
    counts = np.zeros((3, 3), int)
    for case in plan_cases(3746, size=64, seed=0):
        counts[case.patient.center - 1, case.patient.target] += 1
    assert np.abs(counts - [[1593, 1110, 235], [259, 214, 76], [27, 201, 31]]).max() <= 4  # each cell is given one first


def test_every_class_stands_in_every_center_of_the_smallest_phantom() -> None:
    cells = {(case.patient.center, case.patient.target) for case in plan_cases(18, size=64, seed=0)}
    assert len(cells) == 9


def test_flags_of_the_table_agree(folder: Path) -> None:
    table = read(folder)
    assert (table["tumor"] == table["benign"] + table["malignant"]).all()
    kinds = list(COLUMNS[COLUMNS.index("osteochondroma") : COLUMNS.index("upper limb")])
    places = list(COLUMNS[COLUMNS.index("hand") : COLUMNS.index("tumor")])
    assert (table[kinds].sum(axis=1) == table["tumor"]).all()
    assert (table[places].sum(axis=1) == table["tumor"]).all()  # zero for every Normal, as in BTXRD
    assert (table[["upper limb", "lower limb", "pelvis"]].sum(axis=1) == 1).all()
    assert (table[["frontal", "lateral", "oblique"]].sum(axis=1) == 1).all()


def test_files_and_annotations_match_the_table(folder: Path) -> None:
    table = read(folder)
    assert sorted(table["image_id"]) == sorted(path.name for path in (folder / "images").iterdir())
    assert {Path(name).suffix for name in table["image_id"]} == {".jpeg", ".jpg"}
    tumours = table.loc[table["tumor"] == 1, "image_id"]
    assert sorted(Path(name).stem for name in tumours) == sorted(path.stem for path in (folder / "Annotations").iterdir())
    modes = set()
    for name in table["image_id"]:
        with Image.open(folder / "images" / name) as image:
            modes.add(image.mode)
    assert modes == {"L", "RGB"}


def test_annotations_lie_in_their_image(folder: Path) -> None:
    for path in (folder / "Annotations").iterdir():
        note = json.loads(path.read_text())
        with Image.open(folder / "images" / note["imagePath"]) as image:
            size = image.size
        assert (note["imageWidth"], note["imageHeight"]) == size
        assert {shape["shape_type"] for shape in note["shapes"]} == {"rectangle", "polygon"}
        points = np.vstack([shape["points"] for shape in note["shapes"]])
        assert points.min() >= 0
        assert (points.max(axis=0) < size).all()
        assert np.ptp(points, axis=0).min() > 0.05 * max(size)  # large enough to be seen


def test_views_of_a_patient_agree_in_age_gender_and_class() -> None:
    cases = plan_cases(200, size=64, seed=0)
    views = [len(case.patient.views) for case in cases]
    assert {1, 2, 3} == set(views)
    assert [case.patient.number for case in cases] == sorted(case.patient.number for case in cases)  # rows stand together


def test_an_image_depends_on_its_own_seed_only(folder: Path, tmp_path: Path) -> None:
    cases = plan_cases(SPEC.count, size=SPEC.size, seed=SPEC.seed)
    picture = draw_picture(cases[7], seed=SPEC.seed)
    picture.image.save(tmp_path / "alone.jpeg", format="JPEG", quality=picture.quality)
    assert (tmp_path / "alone.jpeg").read_bytes() == (folder / "images" / cases[7].image_id).read_bytes()
    other = draw_picture(plan_cases(SPEC.count, size=SPEC.size, seed=4)[7], seed=4)
    assert other.image.tobytes() != picture.image.tobytes()


def test_worker_processes_draw_the_same(folder: Path, tmp_path: Path) -> None:
    spec = PhantomSpec(count=26, size=64, seed=1)
    seen: list[tuple[int, int]] = []
    make_phantom(tmp_path / "phantom", spec, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(done, 26) for done in range(1, 27)]
    case = plan_cases(26, size=64, seed=1)[11]
    picture = draw_picture(case, seed=1)
    picture.image.save(tmp_path / "alone.jpeg", format="JPEG", quality=picture.quality)
    assert (tmp_path / "alone.jpeg").read_bytes() == (tmp_path / "phantom" / "images" / case.image_id).read_bytes()


def test_the_same_phantom_is_not_drawn_twice(folder: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    make_phantom(folder, SPEC, progress=lambda done, total: pytest.fail("drawn again"))
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_a_folder_that_holds_something_else_is_left_alone(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="remove it or name another"):
        make_phantom(folder, PhantomSpec(count=25, size=160, seed=3))
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(DataError, match="no phantom"):
        make_phantom(tmp_path, SPEC)
    assert (tmp_path / "note.txt").read_text() == "mine"


def test_an_interrupted_drawing_leaves_nothing(tmp_path: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_phantom(tmp_path / "phantom", SPEC, progress=interrupt)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("count", "size", "seed"), [(17, 448, 0), (360, 63, 0), (360, 4097, 0), (360, 448, -1)])
def test_impossible_specs_are_refused(count: int, size: int, seed: int) -> None:
    with pytest.raises(ConfigError):
        PhantomSpec(count=count, size=size, seed=seed)


@pytest.mark.parametrize("tone", [0.0203, 0.0204])  # in the lower and the upper half of a level
def test_a_flat_border_keeps_its_tone(tone: float) -> None:
    """Beside a tie lie empty levels, which may be sent anywhere: a tumour's border was lighter than a Normal's."""
    reference = np.concatenate([np.full(2000, tone), np.linspace(0.2, 0.8, 8000)]).astype(np.float32)
    grey = np.concatenate([reference[:2000], reference[2000:] ** 1.1])
    matched = match_tones(grey, reference)
    assert np.abs(matched[:2000] - tone).max() < 1 / 4096 and np.abs(matched - reference).max() < 2 / 4096


def test_tones_are_given_to_an_image_without_reordering_them() -> None:
    rng = np.random.default_rng(0)
    grey, reference = rng.random((60, 50)).astype(np.float32) ** 3, rng.random((60, 50)).astype(np.float32) * 0.5
    matched = match_tones(grey, reference)
    for share in (0.1, 0.5, 0.9):
        assert abs(float(np.quantile(matched, share)) - float(np.quantile(reference, share))) < 0.005
    assert (np.diff(matched.ravel()[np.argsort(grey.ravel())]) >= -1e-6).all()


def test_a_tumour_does_not_change_brightness_and_contrast() -> None:
    cases = [case for case in plan_cases(200, size=160, seed=0) if case.patient.target == 2][:6]
    for case in cases:
        patient = case.patient.__class__(**{**vars(case.patient), "tumour": ""})
        healthy = case.__class__(**{**vars(case), "patient": patient})
        ill, well = (np.asarray(draw_picture(one, seed=0).image.convert("L"), float) for one in (case, healthy))
        assert abs(ill.mean() - well.mean()) < 1.0  # grey levels
        assert abs(ill.std() - well.std()) < 1.0
        assert np.abs(ill - well).max() > 30  # and yet it is there


def test_views_of_a_region_share_their_sites() -> None:
    for frontal, lateral in REGIONS.values():
        one, two = ([(s.column, s.joint, s.limb) for s in view(20.0).sites] for view in (frontal, lateral))
        assert one == two


def test_a_closed_curve_of_a_circle_stays_near_the_circle() -> None:
    curve = closed_curve(ellipse(0.1, 0.2, radius_x=0.3, radius_y=0.3))
    assert len(curve) == 96
    np.testing.assert_allclose(np.hypot(curve[:, 0] - 0.1, curve[:, 1] - 0.2), 0.3, atol=0.003)


def test_depth_grows_towards_the_middle_and_not_at_the_picture_border() -> None:
    canvas = Canvas(height=100, width=50)
    whole = (slice(0, 100), slice(0, 50))
    band = canvas.mask([np.array([(-0.1, -1.0), (0.1, -1.0), (0.1, 1.0), (-0.1, 1.0)])], whole)
    depth = canvas.depth(band)
    assert depth[50, 25] == pytest.approx(0.1, abs=0.02)
    np.testing.assert_allclose(depth[0], depth[50], atol=0.011)
