"""Fuzz of datasets: tables, workbooks, split files, annotations and image files that strangers wrote."""

import csv
import io
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import openpyxl
import pytest
import tifffile
from PIL import Image

from tests.support.datasets import small_table, write_dataset
from tests.support.fuzz import HOSTILE_TEXTS, Case, Fuzz, changed_json, check, damaged, run_verb, sealed
from tune_btxrd.data.cache.decode import UnreadableError, decode_image
from tune_btxrd.data.readers.registry import read_dataset
from tune_btxrd.data.splits.split_files import load_split
from tune_btxrd.errors import TuneBtxrdError
from tune_btxrd.scoring.annotations import read_lesion

PATHS = (*("images/", "./i1.png", "x/../i1.png", "link.png", "pipe", "/dev/zero", "~/.ssh/id_rsa", "x\\i1.png", "I1.PNG"),)
CELLS = (None, True, 0, 1, 2, -1, 1.5, 1e300, "", "=1+1", "../x.jpeg", "é" * 200)
Rows = list[list[str]]


def own_data(root: Path, count: int = 24) -> Rows:
    """A folder with a picture per row of the table; beside them a link out of it and a pipe that never ends."""
    root.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(count):
        Image.fromarray(rng.integers(0, 255, (12, 14), dtype=np.uint8)).save(root / f"i{number}.png")
    (root / "link.png").symlink_to("/etc/passwd")
    run = [
        [f"i{n}", f"i{n}.png", ("Normal", "Benign", "Malignant")[n % 3], str(n // 6 % 2), f"g{n // 2}"] for n in range(count)
    ]
    return [["image_id", "path", "label", "center", "group"], *run]


def changed_rows(case: Case, rows: Rows) -> Rows:
    rows = [list(row) for row in rows]
    for _ in range(case.choice((1, 1, 1, 2, 4))):
        place = case.randrange(len(rows))
        row, kind = rows[place], case.randrange(9)
        if kind < 5 and row:
            row[case.randrange(len(row))] = case.choice((*HOSTILE_TEXTS, *PATHS))
        elif kind == 5:
            rows.insert(place, list(row))
        elif kind == 6 and len(rows) > 2:
            del rows[place]
        elif kind == 7:
            rows[place] = row[: case.randrange(6)] if case.random() < 0.5 else [*row, "x"]
        else:
            rows = rows[: max(1, case.randrange(len(rows)))]
    return rows


def as_csv(case: Case, rows: Sequence[Sequence[str]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, delimiter=case.choice("," * 9 + ";\t")).writerows(rows)
    encoding = case.choice(("utf-8",) * 9 + ("utf-16", "latin-1", "utf-8-sig"))
    data = text.getvalue().encode(encoding, "replace")
    return damaged(case, data) if case.random() < 0.2 else data


def test_manifests(fuzz: Fuzz, tmp_path: Path) -> None:
    rows = own_data(tmp_path / "own")
    for case in fuzz.cases(150):
        (tmp_path / "own" / "manifest.csv").write_bytes(as_csv(case, changed_rows(case, rows)))
        with sealed(tmp_path):
            outcome = run_verb(
                *("prepare", "--data", str(tmp_path / "own"), "--cache", str(tmp_path / "cache")),
                *(["--table-only"] if case.number % 10 else ["--image-size", "32"]),
            )
        check(outcome)
        assert "root:x:" not in outcome.out + outcome.error


def test_workbooks(fuzz: Fuzz, tmp_path: Path) -> None:
    root = write_dataset(tmp_path / "data", small_table(), suffix="xlsx")
    written = (root / "dataset.xlsx").read_bytes()
    for case in fuzz.cases(150):
        if case.random() < 0.4:
            data = damaged(case, written)
        else:
            book = openpyxl.load_workbook(io.BytesIO(written))
            sheet = book.worksheets[0]
            for _ in range(case.choice((1, 1, 2, 5))):
                row, column = case.randrange(1, sheet.max_row + 2), case.randrange(1, sheet.max_column + 2)
                sheet.cell(row, column).value = case.choice(CELLS)
            if case.random() < 0.15:
                sheet.delete_cols(case.randrange(1, sheet.max_column + 1))
            stream = io.BytesIO()
            book.save(stream)
            data = stream.getvalue()
        (root / "dataset.xlsx").write_bytes(data)
        with sealed(tmp_path):
            refused_or_read(lambda: read_dataset(root, accept_revision=True))


def refused_or_read(call: object) -> None:
    """A mistake of the user in one line, or no error at all."""
    assert callable(call)
    try:
        call()
    except TuneBtxrdError as error:
        assert "\n" not in str(error), str(error)


def test_split_files(fuzz: Fuzz, tmp_path: Path) -> None:
    rows = own_data(tmp_path / "own")
    (tmp_path / "own" / "manifest.csv").write_bytes("\n".join(map(",".join, rows)).encode())
    manifest = read_dataset(tmp_path / "own")
    parts = [["image_id", "part", "label", "group"]]
    parts += [[row[0], ("train", "val", "test")[n // 3 % 3], row[2], str(n)] for n, row in enumerate(rows[1:])]
    for case in fuzz.cases(200):
        (tmp_path / "s.csv").write_bytes(as_csv(case, changed_rows(case, parts)))
        with sealed(tmp_path):
            refused_or_read(lambda: load_split(tmp_path / "s.csv", manifest))


def test_class_folders(fuzz: Fuzz, tmp_path: Path) -> None:
    """Trees of folders with whatever names: read, refused, or a choice asked for."""
    names = [*HOSTILE_TEXTS, "train", "Testing", "val", "images", "masks", "cat", "dog", "__MACOSX", ".git", "._x", "a b"]
    names = [name for name in names if name not in ("", "..") and not {"/", "\0"} & set(name) and len(name.encode()) < 250]
    for case in fuzz.cases(120):
        root = tmp_path / "tree"
        for _ in range(case.randrange(1, 14)):
            folder = root.joinpath(*(case.choice(names) for _ in range(case.randrange(4))))
            try:
                folder.mkdir(parents=True, exist_ok=True)
                (folder / f"{case.choice(names)}{case.choice(('.png', '.jpg', '.JFIF', '', '.txt'))}"[:80]).write_bytes(b"x")
            except OSError:
                continue  # a file of that name is there
        layout = case.choice((None, None, "class", "part/class", "class/group", "center/class", case.choice(HOSTILE_TEXTS)))
        with sealed(tmp_path):
            refused_or_read(lambda root=root, layout=layout: read_dataset(root, layout=layout or None))
        shutil.rmtree(root, ignore_errors=True)


def test_annotations(fuzz: Fuzz, tmp_path: Path) -> None:
    Image.fromarray(np.zeros((20, 30), dtype=np.uint8)).save(tmp_path / "a.png")
    square = [[1, 1], [9, 1], [9, 9], [1, 9]]
    shapes = [{"label": "x", "shape_type": kind, "points": square} for kind in ("polygon", "rectangle")]
    right = {"version": "5", "shapes": shapes, "imageWidth": 30, "imageHeight": 20}
    for case in fuzz.cases(400):
        data = json.dumps(changed_json(case, right)).encode()
        (tmp_path / "a.json").write_bytes(damaged(case, data) if case.random() < 0.4 else data)
        refused_or_read(lambda: read_lesion(tmp_path / "a.json", 16, image=tmp_path / "a.png"))


def deep_images() -> dict[str, bytes]:
    """Pictures that go through tifffile and imagecodecs, by file name."""
    deep = np.linspace(0, 65_535, 20 * 20 * 3).astype(np.uint16).reshape(20, 20, 3)
    found = {}
    for name, pixels, options in (
        ("a.tif", deep[..., 0], {"compression": "lzw"}),
        ("b.tif", deep, {"photometric": "rgb", "planarconfig": "separate"}),
        ("c.tif", deep.astype(np.float32), {"photometric": "rgb", "compression": "zlib", "predictor": True}),
        ("d.tif", deep >> 4, {"photometric": "rgb", "tile": (16, 16)}),
    ):
        stream = io.BytesIO()
        tifffile.imwrite(stream, pixels, **options)
        found[name] = stream.getvalue()
    stream = io.BytesIO()
    Image.fromarray(deep[..., 0]).save(stream, format="PNG")
    return found | {"e.png": stream.getvalue()}


@pytest.mark.parametrize("name", ["a.tif", "b.tif", "c.tif", "d.tif", "e.png"])
def test_deep_images(fuzz: Fuzz, tmp_path: Path, name: str) -> None:
    data = deep_images()[name]
    (tmp_path / name).write_bytes(data)
    decode_image(tmp_path / name, 16)
    for case in fuzz.cases(120):
        changed = bytearray(data)
        for _ in range(case.choice((1, 3, 20))):
            changed[case.randrange(min(len(changed), case.choice((300, 10**9))))] = case.randrange(256)
        (tmp_path / name).write_bytes(damaged(case, data) if case.random() < 0.4 else bytes(changed))
        with sealed(tmp_path):
            try:
                decode_image(tmp_path / name, 16)
            except UnreadableError as error:
                assert "\n" not in str(error)
