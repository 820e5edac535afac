"""Images of one part that look like one of another are found, whatever their size and brightness; others are not."""

from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageFilter

from tune_btxrd.data.audit.near_across import near_across
from tune_btxrd.data.cache.cache import build_cache
from tune_btxrd.data.cache.hashes import file_hashes
from tune_btxrd.data.readers.registry import read_dataset


def drawn(seed: int, side: tuple[int, int] = (90, 120)) -> Image.Image:
    """A smooth random picture."""
    noise = np.random.default_rng(seed).integers(0, 256, side, dtype=np.uint8)
    return Image.fromarray(noise).filter(ImageFilter.GaussianBlur(4))


def test_an_edited_copy_is_found_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    pictures = {f"{number}.png": drawn(number) for number in range(12)}
    pictures["copy.png"] = drawn(3).resize((180, 240)).point(lambda value: min(255, value + 12))
    for name, picture in pictures.items():
        picture.save(tmp_path / "data" / name)
    answers = [number % 2 for number in range(len(pictures))]
    pd.DataFrame({"image_id": list(pictures), "path": list(pictures), "label:a": answers}).to_csv(
        tmp_path / "data" / "manifest.csv", index=False
    )
    manifest = read_dataset(tmp_path / "data")
    hashes = file_hashes(manifest, cache_dir=tmp_path / "cache")
    cache = build_cache(manifest, image_size=64, cache_dir=tmp_path / "cache", hashes=hashes)
    held = ("copy.png", "5.png")
    others = tuple(name for name in pictures if name not in held)
    heard: list[tuple[int, int]] = []
    found = near_across(manifest, (held, cache), (others, cache), progress=lambda done, total: heard.append((done, total)))
    assert found == [("copy.png", "3.png")]
    assert heard[-1] == (13, 13) and heard == sorted(heard)
    assert near_across(manifest, ((), cache), (others, cache)) == []
