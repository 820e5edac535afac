"""The volume phantom: BraTS's layout, the same bytes again, a grade that nothing but the lesion's arrangement tells."""

import dataclasses
from pathlib import Path

import nibabel
import numpy as np
import pytest

from tune_btxrd.data.phantom import make_phantom, phantom_spec
from tune_btxrd.data.phantom.heads import CHANNELS, CORE, RIM, Head, draw_head, plan_heads
from tune_btxrd.data.readers.registry import read_dataset
from tune_btxrd.errors import ConfigError

SPEC = phantom_spec("volumes", count=12, size=24)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("phantom") / "drawn"
    make_phantom(root, SPEC)
    return root


def test_the_reader_of_brats_reads_it(folder: Path) -> None:
    manifest = read_dataset(folder, dataset="phantom")
    assert len(manifest) == 12 and manifest.class_names == ("HGG", "LGG") and manifest.class_counts == (7, 5)
    assert manifest.channels == CHANNELS and all(manifest.masks)
    image = nibabel.load(manifest.files[0])
    assert image.shape == (20, 24, 20) and nibabel.aff2axcodes(image.affine) == ("L", "P", "S")


def test_the_same_spec_draws_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    make_phantom(tmp_path / "again", SPEC)
    files = [path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.is_file()]
    assert len(files) == 12 * 5 + 2
    assert all((folder / path).read_bytes() == (tmp_path / "again" / path).read_bytes() for path in files)
    other = tmp_path / "other"
    make_phantom(other, dataclasses.replace(SPEC, seed=1))
    assert (other / "name_mapping.csv").read_bytes() != (folder / "name_mapping.csv").read_bytes()


def test_grades_differ_in_the_arrangement_of_one_contrast_alone() -> None:
    high = Head(number=5, case="x", grade="HGG")
    one, other = (draw_head(head, size=40, seed=0) for head in (high, dataclasses.replace(high, grade="LGG")))
    for name in ("flair", "t1", "t2"):
        np.testing.assert_array_equal(one.contrasts[name], other.contrasts[name])
    np.testing.assert_array_equal(one.mask, other.mask)
    core, rim = one.mask == CORE, one.mask == RIM
    assert abs(int(core.sum()) - int(rim.sum())) <= 1
    bright, dark = one.contrasts["t1ce"], other.contrasts["t1ce"]
    assert bright[rim].mean() > 1.5 * bright[core].mean() and dark[core].mean() > 1.5 * dark[rim].mean()
    assert bright.mean() == pytest.approx(dark.mean(), rel=2e-3) and bright.std() == pytest.approx(dark.std(), rel=2e-2)
    np.testing.assert_array_equal(bright[one.mask == 0], dark[one.mask == 0])


def test_grades_are_drawn_without_a_look_at_the_number() -> None:
    heads = plan_heads(100, seed=0)
    high = np.array([head.number for head in heads if head.grade == "HGG"])
    assert len(high) == 60 and 40 < high.mean() < 61 and len({head.case for head in heads}) == 100


def test_the_spec_keeps_both_kinds_apart() -> None:
    assert phantom_spec().name.startswith("phantom-400x384") and "kind" not in phantom_spec().mark
    assert phantom_spec("volumes").name == "phantom-volumes-120x48-seed0-drawing2"
    with pytest.raises(ConfigError, match="at least 12 volumes"):
        phantom_spec("volumes", count=4)
    with pytest.raises(ConfigError, match="24 <= size <= 256"):
        phantom_spec("volumes", size=384)
