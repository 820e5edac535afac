"""Tables with several labels: what a cell may say, hostile names, both kinds of columns, images without a known label."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.paths import ROOT
from tune_btxrd.data.manifest import Manifest
from tune_btxrd.data.readers.registry import read_dataset, task_of
from tune_btxrd.data.splits.split_files import load_split, read_split, save_splits
from tune_btxrd.data.splits.splits import make_split
from tune_btxrd.errors import DataError
from tune_btxrd.tasks.multiclass import MULTICLASS
from tune_btxrd.tasks.multilabel import MULTILABEL

SHARED = ROOT.parent / "shared" / "data" / "multilabel"


def table(folder: Path, header: str, rows: list[str]) -> Path:
    """A dataset of tiny images with this manifest; a row lacks its image_id and path."""
    folder.mkdir(exist_ok=True)
    lines = [f"image_id,path,{header}"]
    for index, row in enumerate(rows):
        Image.new("L", (8, 8), index % 256).save(folder / f"{index}.png")
        lines.append(f"i{index},{index}.png,{row}")
    (folder / "manifest.csv").write_text("\n".join(lines), encoding="utf-8")
    return folder


def labelled(folder: Path, count: int = 40) -> Manifest:
    """Pairs of images of one patient, two labels, every fifth pair without any answer."""
    rows = ["1,0,g{}", "0,1,g{}", "1,,g{}", "0,0,g{}"]
    texts = [",,g{}" if index // 2 % 5 == 4 else rows[(index // 2) % 4] for index in range(count)]
    return read_dataset(
        table(folder, "label:a,label:b,group", [text.format(index // 2) for index, text in enumerate(texts)])
    )


def test_every_way_to_write_an_answer(tmp_path: Path) -> None:
    rows = ["1,1.0", "0,0.0", ",TRUE", "yes,False", "no,"]
    manifest = read_dataset(table(tmp_path, 'Label: Pleural  Effusion,"label:in ""ICU"" 🏥"', rows))
    assert manifest.class_names == ("Pleural Effusion", 'in "ICU" 🏥')
    assert manifest.targets.T.tolist() == [[1, 0, -1, 1, 0], [1, 0, 1, 0, -1]]
    assert manifest.task is MULTILABEL and task_of(tmp_path) is MULTILABEL
    assert manifest.class_counts == (2, 2) and manifest.positive_class == 0


@pytest.mark.parametrize(
    ("header", "row", "message"),
    [
        ("label:a", "-1", "row 2 of .* has '-1' in column 'label:a'"),
        ("label:a,label:b", "1,maybe", "row 2 of .* has 'maybe' in column 'label:b'"),
        ("label,label:a", "x,1", "has 'label' and 'label:a': remove one of the two kinds"),
        ("label:", "1", "A label must have a name"),
        ("label:a,label:A", "1,0", "must differ in more than case"),
        ("label:a,label:a", "1,0", "'label:a' stands twice"),
        ("label:=1+1", "1", "formula"),
        ("finding", "1", r"must have the column\(s\) label"),
    ],
)
def test_what_is_no_answer_or_no_name_is_refused(tmp_path: Path, header: str, row: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_dataset(table(tmp_path, header, [row]))


def test_one_label_is_enough_and_classes_stay_classes(tmp_path: Path) -> None:
    assert read_dataset(table(tmp_path / "one", "label:a", ["1", "0"])).class_names == ("a",)
    classes = read_dataset(table(tmp_path / "classes", "label", ["x", "y"]))
    assert classes.task is MULTICLASS and task_of(tmp_path / "classes") is MULTICLASS


def test_the_label_to_watch(tmp_path: Path) -> None:
    folder = table(tmp_path, "label:a,label:b,label:c", ["1,1,", "1,0,", "0,0,", "0,0,"])
    assert read_dataset(folder).positive_class == 1  # the rarest with a yes and a no
    assert read_dataset(folder, positive_class="a").positive_class == 0
    with pytest.raises(DataError, match="must be one of a, b, c, but got 'd'"):
        read_dataset(folder, positive_class="d")
    assert any("Nothing is known of c" in note for note in read_dataset(folder).notes)
    assert read_dataset(folder, exclude=["i0"]).class_names == ("a", "b", "c")  # b has no yes left, and stays


def test_images_of_which_nothing_is_known_are_in_no_part(tmp_path: Path) -> None:
    manifest = labelled(tmp_path)
    unknown = {image_id for image_id, row in zip(manifest.image_ids, manifest.targets, strict=True) if (row == -1).all()}
    assert len(unknown) == 8 and any("8 image(s) have no known label" in note for note in manifest.notes)
    for name in ("stratified", "fold 1/4"):
        split = make_split(name, manifest, pairs=[], groups="duplicates")
        dealt = {image_id for ids in split.parts.values() for image_id in ids}
        assert dealt == set(manifest.image_ids) - unknown, name
        for part, ids in split.parts.items():
            groups = {manifest.groups[row] for row in manifest.rows(ids)}  # type: ignore[index]
            others = {manifest.groups[row] for p, o in split.parts.items() if p != part for row in manifest.rows(o)}  # type: ignore[index]
            assert not groups & others, "a group is whole"


def test_splits_on_disk_hold_the_answers(tmp_path: Path) -> None:
    manifest = labelled(tmp_path / "data")
    split, numbers = make_split("stratified", manifest, pairs=[], groups="duplicates"), np.arange(len(manifest)) // 2
    save_splits([split], tmp_path / "splits", manifest=manifest, numbers=numbers)
    saved = read_split(tmp_path / "splits", "stratified", manifest.class_names, task=MULTILABEL)
    assert saved.targets.tolist() == manifest.targets[manifest.rows(saved.ids)].tolist()
    own = tmp_path / "own.csv"
    parts = {image_id: part for part, ids in split.parts.items() for image_id in ids}
    own.write_text("image_id,part\n" + "\n".join(f"{i},{parts.get(i, 'train')}" for i in manifest.image_ids), "utf-8")
    loaded = load_split(own, manifest, numbers=numbers)
    assert loaded.parts == split.parts and "8 image(s) of the file have no known label" in loaded.note
    own.write_text("image_id,part,label:a\ni0,train,0\ni2,val,0\ni4,test,1", "utf-8")
    with pytest.raises(DataError, match="calls i0 '0' where the dataset says '1'"):
        load_split(own, manifest)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared radiographs with several labels are not here")
def test_real_radiographs_keep_the_share_of_every_answer() -> None:
    manifest = read_dataset(SHARED)
    assert len(manifest) == 208 and len(set(manifest.groups or ())) == 118 and len(manifest.class_names) == 6
    split = make_split("stratified", manifest, pairs=[], groups="duplicates")
    shares = np.stack([manifest.answers[manifest.rows(ids)].mean(axis=0) for ids in split.parts.values()])
    assert (shares.max(axis=0) - shares.min(axis=0)).max() <= 0.03
    sizes = np.array([len(ids) for ids in split.parts.values()]) / len(manifest)
    assert np.abs(sizes - [0.7, 0.15, 0.15]).max() < 0.03
