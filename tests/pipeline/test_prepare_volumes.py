"""Verb `prepare` on volumes: what it prints, audits and draws; flags that have nothing to do."""

import json
from pathlib import Path

import pytest
from PIL import Image

from tests.support.images import write_pictures
from tests.support.volumes import head, save, write_table
from tune_btxrd.cli.main import main

pytest.importorskip("nibabel")


def test_prepare_tells_of_volumes_and_draws_three_planes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_table(tmp_path / "own", count=24, lacking=[(3, "t1ce")])
    (root / "P6_flair.nii.gz").write_bytes((root / "P5_flair.nii.gz").read_bytes())
    (root / "P6_t1ce.nii.gz").write_bytes((root / "P5_t1ce.nii.gz").read_bytes())
    save(head(8, shape=(12, 14, 8), channel=1), root / "P8_t1ce.nii.gz")
    words = [
        "prepare",
        "--data",
        str(root),
        "--missing-channel",
        "zero",
        "--image-size",
        "32",
        "--cache",
        str(tmp_path / "cache"),
    ]
    assert main([*words, "--channels", "t1ce,FLAIR"]) == 0
    said = capsys.readouterr().out
    for part in (
        "24 volumes in",
        "1 of 24 patients lack a channel, zeros stand for it: P3 t1ce",
        "volume shape: 12x14x10 voxels (23), 12x14x8 voxels (1)",
        "1 volume(s), P8: flair: resampled to the grid of t1ce",
        "duplicate files: 1 pairs, 1 with different labels: P5 low / P6 high",
    ):
        assert part in said, (part, said)
    [folder] = (tmp_path / "cache" / "prepared").iterdir()
    with Image.open(folder / "figures" / "volumes.png") as sheet:
        assert sheet.width > 600 and sheet.height > 700 and len(sheet.convert("L").getcolors() or ()) > 100
    audit = json.loads((folder / "audit.json").read_text())
    assert audit["grids"]["axes and type"] == {"RAS int16": 24}
    assert audit["decoding"]["flair: resampled to the grid of t1ce"] == ["P8"]
    assert {shortcut["feature"] for shortcut in audit["shortcuts"]} >= {
        "volume shape",
        "spacing",
        "axes and type",
        "foreground",
    }


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--channels", "flair"], "--channels is for volumes"),
        (["--spacing", "1.0"], "--spacing is for volumes"),
        (["--missing-channel", "zero"], "--missing-channel is for volumes"),
        (["--spacing", "0"], "0.1 <= spacing <= 20"),
        (["--channels", "a,a"], "each once"),
        (["--phantom", "volumes"], "--phantom shape the phantom, but --data"),
    ],
)
def test_flags_of_volumes_are_refused_for_images(
    tmp_path: Path, words: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in "ab":
        write_pictures(tmp_path / "own" / name, grey=4)
    assert main(["prepare", "--data", str(tmp_path / "own"), "--cache", str(tmp_path / "cache"), *words]) == 2
    said = capsys.readouterr().err
    assert reason in said and said.count("\n") <= 2


def test_a_backbone_of_images_is_refused_before_volumes_are_decoded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And the reverse, where a search could draw one."""
    volumes, pictures = write_table(tmp_path / "volumes", count=8), tmp_path / "pictures"
    for name in "ab":
        write_pictures(pictures / name, grey=4)
    (tmp_path / "both.yaml").write_text(
        "fixed: {pretrained: false}\nspace: {backbone: {choices: [test_efficientnet, resnet3d_10]}}\n"
        "start: [{backbone: test_efficientnet}]\n"
    )
    where = ["--cache", str(tmp_path / "cache"), "--storage", str(tmp_path / "results")]
    for data, words in (
        (volumes, ["--backbone", "test_efficientnet"]),
        (pictures, ["--backbone", "resnet3d_10", "--no-pretrained"]),
        (pictures, ["--space", str(tmp_path / "both.yaml")]),
    ):
        assert main(["search", "--data", str(data), *where, *words]) == 2
        said = capsys.readouterr()
        assert "`backbone` must take" in said.err and "as the dataset holds them" in said.err
        assert "decoded" not in said.out and not (tmp_path / "cache").exists() and not (tmp_path / "results").exists()
