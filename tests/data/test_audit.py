"""The audit on hand-made datasets, on the true table, and on real images."""

import dataclasses
import functools
import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score

from tests.support.paths import SHARED
from tune_btxrd.data.audit.audit import Audit, audit
from tune_btxrd.data.audit.features import table_features
from tune_btxrd.data.audit.findings import shortcut_findings
from tune_btxrd.data.audit.headers import ImageHeader, image_headers
from tune_btxrd.data.audit.picture_measures import NEAR_BITS, border_numbers, content_box, measure_pixels, near_pairs
from tune_btxrd.data.audit.short_lines import shortcut_lines
from tune_btxrd.data.audit.shortcuts import (
    ACROSS,
    Feature,
    Shortcut,
    Strength,
    _auc,
    auc_standard_error,
    measure_shortcuts,
    telling_values,
)
from tune_btxrd.data.audit.siblings import find_siblings, group_sizes
from tune_btxrd.data.cache.cache import ImageCache, build_cache
from tune_btxrd.data.cache.decode import decode_image
from tune_btxrd.data.cache.hashes import file_hashes
from tune_btxrd.data.manifest import Manifest
from tune_btxrd.data.readers.registry import read_dataset
from tune_btxrd.data.splits.groups import duplicate_pairs, read_pairs
from tune_btxrd.data.splits.splits import Split, make_split
from tune_btxrd.errors import DataError

TABLES, STANDIN, SAMPLE = SHARED / "btxrd_tables", SHARED / "xray_standin", SHARED / "btxrd_sample30"
needs_shared = pytest.mark.skipif(not TABLES.exists(), reason="the shared test material is not at hand (../shared/data)")


def manifest_in(root: Path, targets: list[int], *, centers: list[str] | None = None) -> Manifest:
    """Images `0.png`, `1.png`, ... of `root`, whether or not they are there."""
    n = len(targets)
    return Manifest(
        dataset="small",
        root=root,
        image_ids=tuple(f"{row}.png" for row in range(n)),
        files=tuple(file if (file := root / f"{row}.png").exists() else None for row in range(n)),
        targets=np.array(targets, dtype=np.int64),
        class_names=("Normal", "Benign", "Malignant"),
        positive_class=2,
        centers=None if centers is None else tuple(centers),
        groups=None,
        table=pd.DataFrame({"age": np.arange(n), "gender": ["F"] * n}),
        annotations=(None,) * n,
    )


def split_of(train: list[int], val: list[int], test: list[int]) -> Split:
    parts = {"train": train, "val": val, "test": test}
    return Split(name="small", parts={part: tuple(f"{row}.png" for row in rows) for part, rows in parts.items()})


def strength_of(found: Audit, feature: str, *, label: str = "class", place: str = "all") -> Strength:
    shortcut = next(s for s in found.shortcuts if s.feature == feature)
    return next(s for s in shortcut.strengths if (s.label, s.place) == (label, place))


def test_the_order_of_class_folders_is_no_shortcut(tmp_path: Path):
    """Rows are then sorted by class because the reader sorts folders; a table's own order is still measured."""
    for name in ("a/1.png", "a/2.png", "b/1.png", "b/2.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("L", (40, 40)).save(tmp_path / name)
    by_folder = read_dataset(tmp_path)
    assert "row order" not in [feature.name for feature in table_features(by_folder)]
    mixed = dataclasses.replace(by_folder, files=by_folder.files[::-1])
    assert "row order" in [feature.name for feature in table_features(mixed)]


@functools.cache
def audited_table() -> Audit:
    manifest = read_dataset(TABLES, table_only=True)
    pairs = read_pairs(TABLES / "btxrd_byte_identical_pairs.csv")
    splits = {name: make_split(name, manifest, pairs=pairs, groups="duplicates") for name in ("stratified", "center")}
    return audit(manifest, pairs=pairs, splits=splits)


@pytest.fixture(scope="module")
def audited_standin(tmp_path_factory: pytest.TempPathFactory) -> Audit:
    folder = tmp_path_factory.mktemp("cache")
    manifest = read_dataset(STANDIN)
    hashes = file_hashes(manifest, cache_dir=folder)
    cache = build_cache(manifest, image_size=64, cache_dir=folder, hashes=hashes)
    return audit(manifest, pairs=duplicate_pairs(hashes, manifest.image_ids), hashes=hashes, cache=cache)


# shortcuts


def measure(feature: Feature, targets: np.ndarray, centers: list[str] | None = None) -> Shortcut:
    names = ("Normal", "Benign", "Malignant")
    numbers = np.arange(len(targets))
    return next(measure_shortcuts([feature], [np.array(names)[targets]], numbers=numbers, centers=centers))


def test_a_feature_that_is_the_class_is_strong_and_noise_is_weak():
    targets = np.repeat([0, 1], 50)
    perfect = measure(Feature(name="f", numbers=targets[:, None].astype(float)), targets).strengths[0]
    assert (perfect.auc, perfect.verdict, perfect.images) == (1.0, "strong", 100)
    noise = np.random.default_rng(0).normal(size=(100, 1))
    assert measure(Feature(name="f", numbers=noise), targets).strengths[0].verdict == "weak"
    constant = measure(Feature(name="f", numbers=np.ones((100, 1))), targets).strengths[0]
    assert (constant.auc, constant.verdict) == (0.5, "weak")


def test_a_group_is_never_on_both_sides():
    """A number that identifies the group, and nothing else, tells nothing once groups are kept together."""
    rng = np.random.default_rng(0)
    group_targets, numbers = rng.integers(0, 2, size=60), np.repeat(np.arange(60), 10)
    feature = Feature(name="f", numbers=rng.permutation(60)[numbers][:, None].astype(float))
    targets = group_targets[numbers]
    names = ("Normal", "Benign", "Malignant")
    grouped = next(measure_shortcuts([feature], [np.array(names)[targets]], numbers=numbers, centers=None))
    assert grouped.strengths[0].verdict == "weak"
    assert measure(feature, targets).strengths[0].auc > 0.9  # each image for itself


def test_within_a_center_a_feature_of_the_center_tells_nothing():
    """Center a is Normal in 9 of 10 images, center b in 1 of 10; the size only tells the center."""
    targets = np.array(([0] * 9 + [1]) * 12 + ([1] * 9 + [0]) * 12)
    centers = ["a"] * 120 + ["b"] * 120
    sizes = np.where(np.array(centers) == "a", 224.0, 512.0)
    values = np.array([f"{size:.0f} px" for size in sizes])
    shortcut = measure(Feature(name="image size", numbers=sizes[:, None], values=values), targets, centers)
    by_place = {(s.label, s.place): s for s in shortcut.strengths}
    assert by_place["class", "all"].auc == pytest.approx(0.9, abs=0.001)
    assert by_place["class", "a"].auc == by_place["class", "b"].auc == 0.5
    assert by_place["center", "all"].auc == 1.0
    assert shortcut.telling == {
        "class": (),
        "center": (
            "224 px: all 120 images of center a and no other",
            "512 px: all 120 images of center b and no other",
        ),
    }


def test_a_place_with_too_few_images_of_two_classes_is_left_out():
    targets, centers = np.array([0] * 20 + [1] * 20), ["a"] * 25 + ["b"] * 15
    shortcut = measure(Feature(name="f", numbers=np.zeros((40, 1))), targets, centers)
    assert [(s.label, s.place) for s in shortcut.strengths] == [("class", "all"), ("center", "all")]


def test_telling_values_of_each_kind():
    values = np.array(["x"] * 6 + ["y"] * 6 + ["z"] * 8)
    names = np.array(["N"] * 12 + ["B"] * 4 + ["N"] * 4)
    assert telling_values(values, names) == (
        "x: 6 images, all of N",
        "y: 6 images, all of N",
    )
    assert telling_values(values, np.array(["N"] * 14 + ["B"] * 6)) == (
        "x: 6 images, all of N",
        "y: 6 images, all of N",
        "z: all 6 images of B, 14% of the others",
    )
    assert telling_values(values, np.array(["N"] * 12 + ["B"] * 8))[0] == "z: all 8 images of B and no other"


def test_standard_error_agrees_with_resampling():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], [60, 40])
    aucs = [roc_auc_score(labels, rng.exponential(size=100) * np.where(labels, 3, 1)) for _ in range(400)]
    assert auc_standard_error(float(np.mean(aucs)), 40, 60) == pytest.approx(np.std(aucs), rel=0.15)
    assert auc_standard_error(1.0, 10, 1000) > 0.03  # ten of ten right is no proof of perfection


def test_auc_agrees_with_scikit_learn():
    rng = np.random.default_rng(0)
    labels, scores = rng.random(200) < 0.3, rng.integers(0, 12, 200).astype(float)  # with many ties
    assert _auc(labels, scores) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    assert _auc(np.array([True, False, True]), np.array([3.0, 1.0, 2.0])) == 1.0


# pixels


def test_content_box_is_where_the_decoder_puts_the_picture(tmp_path):
    for width, height in ((300, 100), (101, 333), (50, 50), (1000, 3)):
        Image.new("L", (width, height), 255).save(tmp_path / "white.png")
        decoded = decode_image(tmp_path / "white.png", 64)
        expected = np.zeros((64, 64), dtype=np.uint8)
        expected[content_box(64, width, height)] = 255
        assert np.array_equal(decoded, expected)


def test_border_numbers_by_hand():
    pixels = np.full((64, 32), 100, dtype=np.uint8)
    pixels[:16] = 0  # an empty quarter at the top
    pixels[:, 31:] = 200  # a bright line at the right
    top, _, bottom, _, left, left_std, right, right_std, *margins = border_numbers(pixels)
    assert (top, bottom) == ((31 * 0 + 200) / 32, (31 * 100 + 200) / 32)
    assert left == 75 and left_std == pytest.approx(np.sqrt(0.25 * 0.75) * 100) and (right, right_std) == (200, 0)
    assert margins == [0, 0, 0, 0]
    pixels[:16] = 0
    assert border_numbers(pixels)[8:].tolist() == [0.25, 0, 0, 0]


@pytest.mark.parametrize("block", [8, 512])
def test_near_pairs_agree_with_counting(monkeypatch, block):
    monkeypatch.setattr("tune_btxrd.data.audit.picture_measures.BLOCK", block)
    hashes = np.random.default_rng(0).random((30, 64)) < 0.5
    hashes[7], hashes[20] = hashes[3], hashes[3]
    hashes[20, :5] ^= True
    slow = [(i, j, int((hashes[i] != hashes[j]).sum())) for i in range(30) for j in range(i + 1, 30)]
    expected = sorted((p for p in slow if p[2] <= 20), key=lambda pair: (pair[2], pair[0], pair[1]))
    assert near_pairs(hashes, within=20) == expected
    assert expected[:3] == [(3, 7, 0), (3, 20, 5), (7, 20, 5)]


def test_an_edited_copy_is_a_near_duplicate_of_its_original_only(tmp_path):
    rng = np.random.default_rng(0)
    pictures = [Image.fromarray(rng.integers(0, 255, (9, 9), dtype=np.uint8)).resize((300, 200)) for _ in range(6)]
    copy = io.BytesIO()
    pictures[2].resize((240, 160)).point(lambda value: value * 0.9).save(copy, "JPEG", quality=60)
    pictures.append(Image.open(copy))
    for row, picture in enumerate(pictures):
        picture.save(tmp_path / f"{row}.png")
    images = np.stack([decode_image(tmp_path / f"{row}.png", 96) for row in range(7)])
    calls: list[tuple[int, int]] = []
    sizes = [picture.size for picture in pictures]
    borders, hashes = measure_pixels(images, range(7), sizes=sizes, progress=lambda *call: calls.append(call))
    assert [(first, second) for first, second, _ in near_pairs(hashes)] == [(2, 6)]
    assert borders.shape == (7, 12) and hashes.shape == (7, 256) and calls[-1] == (7, 7)
    coloured = np.repeat(images[..., None], 3, axis=-1)
    assert np.array_equal(measure_pixels(coloured, range(7), sizes=sizes)[1], hashes)


# headers


def test_headers_name_size_mode_and_what_is_unreadable(tmp_path):
    Image.new("RGB", (30, 20)).save(tmp_path / "0.png")
    turned = Image.new("L", (30, 20))
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(tmp_path / "1.png", format="JPEG", exif=exif)
    (tmp_path / "2.png").write_bytes(b"")
    (tmp_path / "3.png").write_bytes(b"PK\x03\x04 a zip")
    (tmp_path / "4.png").write_bytes((tmp_path / "0.png").read_bytes()[:20])
    headers = image_headers(manifest_in(tmp_path, [0] * 6))
    assert headers["0.png"] == ImageHeader(width=30, height=20, mode="RGB", format="PNG")
    assert headers["1.png"] == ImageHeader(width=20, height=30, mode="L", format="JPEG")
    assert headers["2.png"].unreadable == "is empty (0 bytes)"
    assert headers["3.png"].unreadable == "is not an image"
    assert headers["4.png"].unreadable and "5.png" not in headers


# siblings


def test_siblings_by_hand():
    manifest = manifest_in(Path("nowhere"), [0] * 8)
    patients, duplicates = np.array([0, 0, 1, 1, 2, 2, 3, 4]), np.array([0, 1, 2, 3, 4, 4, 5, 6])
    split = split_of([0, 2, 4], [1, 6], [3, 5, 7])
    val, test = find_siblings(split, manifest, patients=patients, duplicates=duplicates)
    assert (val.part, val.images, val.with_sibling, val.same_file, val.share) == ("val", 2, 1, 0, 0.5)
    assert (test.part, test.images, test.with_sibling, test.same_file) == ("test", 3, 2, 1)
    assert group_sizes(patients) == {1: 2, 2: 3}
    assert len(find_siblings(split_of([0], [1], []), manifest, patients=patients, duplicates=duplicates)) == 1


# the audit as a whole


def test_audit_of_files_finds_missing_unreadable_and_contradictions(tmp_path):
    rng = np.random.default_rng(0)
    for row in range(40):
        Image.fromarray(rng.integers(0, 255, (40, 30 + 10 * (row % 2)), dtype=np.uint8)).save(tmp_path / f"{row}.png")
    (tmp_path / "5.png").unlink()
    (tmp_path / "6.png").write_bytes(b"")
    (tmp_path / "9.png").write_bytes((tmp_path / "8.png").read_bytes())
    manifest = manifest_in(tmp_path, [row % 2 for row in range(40)])
    hashes = file_hashes(manifest, cache_dir=tmp_path / "cache")
    pairs = duplicate_pairs(hashes, manifest.image_ids)
    splits = {"small": split_of([8], [9], [])}
    calls: list[tuple[int, int]] = []
    found = audit(manifest, pairs=pairs, hashes=hashes, splits=splits, progress=lambda *call: calls.append(call))
    assert found.missing == ("5.png",) and dict(found.unreadable) == {"6.png": "is empty (0 bytes)"}
    assert [str(pair) for pair in found.duplicates] == ["8.png Normal / 9.png Benign"] and found.duplicates[0].contradicts
    assert [(s.with_sibling, s.same_file) for s in found.siblings] == [(1, 1)]
    assert strength_of(found, "image size").auc == pytest.approx(1.0, abs=0.06)
    assert dict(found.not_measured) == dict.fromkeys(("border", "near-duplicates"), "the images are not decoded")
    assert {"missing files", "unreadable files", "duplicate files", "contradicting labels", "siblings in train"} <= set(
        found.table()["finding"]
    )
    assert calls[-1] == (39, 39)


def test_audit_of_decoded_images_finds_borders_and_copies(tmp_path):
    rng = np.random.default_rng(0)
    pictures = [np.kron(rng.integers(60, 200, (8, 8)), np.ones((8, 8))).astype(np.uint8) for _ in range(40)]
    for row, picture in enumerate(pictures):
        picture[:6] = 255 if row % 2 else 60  # a white frame for one class
        Image.fromarray(picture).save(tmp_path / f"{row}.png")
    Image.fromarray(pictures[0]).resize((60, 60)).save(tmp_path / "3.png")
    (tmp_path / "21.png").write_bytes((tmp_path / "20.png").read_bytes())  # identical: a duplicate, no near-duplicate
    manifest = manifest_in(tmp_path, [row % 2 for row in range(40)])
    hashes = file_hashes(manifest, cache_dir=tmp_path / "cache")
    cache = build_cache(manifest, image_size=64, cache_dir=tmp_path / "cache", hashes=hashes, exclude=["7.png"])
    found = audit(manifest, pairs=duplicate_pairs(hashes, manifest.image_ids), hashes=hashes, cache=cache)
    border = strength_of(found, "border")
    assert border.images == 39 and border.auc > 0.9 and border.verdict == "strong"
    assert [(pair.first, pair.second, pair.contradicts) for pair in found.near_duplicates] == [("0.png", "3.png", True)]
    assert not found.not_measured
    assert any(line.startswith("near-duplicates: 1 pairs, 1 with different labels") for line in found.short_lines())


def test_audit_without_persons_says_so_and_keeps_given_groups(tmp_path):
    manifest = dataclasses.replace(manifest_in(tmp_path, [0, 1] * 10), table=pd.DataFrame({"image_id": range(20)}))
    found = audit(manifest, pairs=[])
    assert found.patients == {} and "probable patients" in found.not_measured and "duplicate files" in found.not_measured
    grouped = dataclasses.replace(manifest, groups=("p", "p", *("",) * 18))
    assert audit(grouped, pairs=[]).patients == {1: 18, 2: 1}


def test_audit_refuses_pairs_of_another_dataset(tmp_path):
    with pytest.raises(DataError, match=r"other\.png"):
        audit(manifest_in(tmp_path, [0, 1]), pairs=[("0.png", "other.png")])


@needs_shared
def test_true_table_without_images():
    found = audited_table()
    assert dict(found.class_counts) == {"Normal": 1879, "Benign": 1525, "Malignant": 342}
    assert dict(found.class_by_center["3"]) == {"Normal": 27, "Benign": 201, "Malignant": 31}
    assert len(found.duplicates) == 21
    assert [(pair.first, pair.second) for pair in found.duplicates if pair.contradicts] == [
        ("IMG000591.jpeg", "IMG003456.jpeg"),
        ("IMG000707.jpeg", "IMG003346.jpeg"),
    ]
    sites = next(s for s in found.shortcuts if s.feature == "site columns")
    assert sites.telling["class"][0] == "all 15 zero: all 1,879 images of Normal and no other"
    assert all(strength_of(found, "site columns", place=place).auc > 0.99 for place in ("all", "1", "2", "3"))
    assert strength_of(found, "row order").auc > 0.99
    extension = next(s for s in found.shortcuts if s.feature == "file extension")
    assert extension.telling["class"] == (".jpg: 27 images, all of Normal",)
    assert strength_of(found, "file extension").verdict == "weak"
    assert strength_of(found, "file extension", place="3").verdict == "strong"
    assert strength_of(found, "view columns").verdict == "weak"
    assert set(found.not_measured) == {
        *("missing and unreadable files", "image size", "image mode", "border", "near-duplicates"),
    }


@needs_shared
def test_true_table_groups_and_siblings():
    found = audited_table()
    assert sum(size * count for size, count in found.patients.items()) == 3746
    assert sum(found.patients.values()) == 1813 and max(found.patients) == 15
    counts = {(s.split, s.part): (s.with_sibling, s.images, s.same_file) for s in found.siblings}
    assert counts == {
        ("stratified", "val"): (368, 561, 0),
        ("stratified", "test"): (380, 564, 0),
        ("center", "val"): (319, 439, 0),
        ("center", "test"): (0, 808, 0),
    }


@needs_shared
def test_audit_prints_about_a_dozen_lines_and_saves_plain_data():
    found = audited_table()
    lines = found.short_lines()
    assert 10 <= len(lines) <= 18 and all("\n" not in line for line in lines)
    assert "duplicate files: 21 pairs, 2 with different labels" in "\n".join(lines)
    plain = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert plain["patients"]["15"] == 1 and plain["shortcuts"][0]["strengths"][0]["verdict"] == "weak"
    assert list(found.table().columns) == ["finding", "where", "strength", "meaning", "cure"]
    assert found.table().map(bool).all(axis=None)


@needs_shared
def test_standin_size_tells_the_center(audited_standin):
    size = next(s for s in audited_standin.shortcuts if s.feature == "image size")
    assert "224x224 px: all 283 images of center 1 and no other" in size.telling["center"]
    assert strength_of(audited_standin, "image size", label="center").auc > 0.99
    assert strength_of(audited_standin, "image size", place="1").auc == 0.5
    assert any("image size tells the center: 1.00; 224x224 px" in line for line in audited_standin.short_lines())
    assert audited_standin.near_duplicates == ()  # 375 different patients in one view: the hard case


@needs_shared
def test_edited_copies_of_genuine_images_are_near(tmp_path):
    manifest = read_dataset(SAMPLE)
    headers = image_headers(manifest)
    sizes = [(headers[image_id].width, headers[image_id].height) for image_id in manifest.image_ids]
    originals = np.stack([decode_image(file, 160) for file in manifest.files if file is not None])
    edited = []
    for file in manifest.files:
        copy = io.BytesIO()
        with Image.open(file) as image:
            image.convert("L").resize((image.width // 3, image.height // 3)).save(copy, "JPEG", quality=50)
        (tmp_path / "copy.jpeg").write_bytes(copy.getvalue())
        edited.append(decode_image(tmp_path / "copy.jpeg", 160))
    _, hashes = measure_pixels(np.concatenate([originals, edited]), range(60), sizes=sizes * 2)
    found = near_pairs(hashes)
    assert sorted((first, second) for first, second, _ in found) == [(row, row + 30) for row in range(30)]
    assert max(bits for _, _, bits in found) < NEAR_BITS * 3 / 4


def test_cache_is_read_as_it_is(tmp_path):
    """The audit takes any opened cache, e.g. one that another process made."""
    for row in range(2):
        Image.new("L", (20, 10), 50 * row).save(tmp_path / f"{row}.png")
    manifest = manifest_in(tmp_path, [0, 1])
    hashes = file_hashes(manifest, cache_dir=tmp_path / "cache")
    built = build_cache(manifest, image_size=32, cache_dir=tmp_path / "cache", hashes=hashes)
    found = audit(manifest, pairs=[], hashes=hashes, cache=ImageCache.open(built.path))
    assert all(not shortcut.strengths for shortcut in found.shortcuts)  # two images: nothing can be measured
    assert found.short_lines()


def test_what_is_measured_on_the_center_alone_is_told_and_no_error() -> None:
    """Too few groups of two classes, enough of two centers."""
    strength = Strength(
        label="center", place=ACROSS, images=24, auc=0.9, standard_error=0.01, best="a", auc_by_name={"a": 0.9, "b": 0.9}
    )
    only_center = Shortcut(feature="border", strengths=(strength,), telling={})
    nothing = Shortcut(feature="image mode", strengths=(), telling={})
    assert [finding.finding for finding in shortcut_findings([nothing, only_center])] == ["shortcut to the center: border"]
    assert shortcut_lines([nothing, only_center]) == [
        "shortcuts (AUC of each feature alone, 0.5 is chance): 0 of 0 tell the class",
        "  border tells the center: 0.90",
    ]
