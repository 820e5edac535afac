"""A few image files, their manifest and their cache, for the tests of decoding and of the cache."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tune_btxrd.data.cache import cache as cache_module
from tune_btxrd.data.cache.cache import ImageCache, build_cache
from tune_btxrd.data.cache.decode import Decoded
from tune_btxrd.data.manifest import Manifest


def manifest_of(files: Sequence[Path | None]) -> Manifest:
    """The files in their order; an id is the file's name, or `missing<row>` where there is none."""
    n = len(files)
    return Manifest(
        dataset="small",
        root=Path("small"),
        image_ids=tuple(file.name if file else f"missing{row}" for row, file in enumerate(files)),
        files=tuple(files),
        targets=np.arange(n, dtype=np.int64) % 2,
        class_names=("no", "yes"),
        positive_class=1,
        centers=None,
        groups=None,
        table=pd.DataFrame(index=range(n)),
        annotations=(None,) * n,
    )


def hashes_of(manifest: Manifest) -> dict[str, str]:
    """The slow reference of `file_hashes`."""
    return {
        image_id: hashlib.sha256(file.read_bytes()).hexdigest()
        for image_id, file in zip(manifest.image_ids, manifest.files, strict=True)
        if file is not None
    }


def write_pictures(folder: Path, *, grey: int, colour: int = 0) -> list[Path]:
    """Noise of 16 x 16 px, different in every file: `grey` PNGs, then `colour` ones."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for number in range(grey + colour):
        rng = np.random.default_rng(number)
        shape = (16, 16) if number < grey else (16, 16, 3)
        files.append(folder / f"{number:03d}.png")
        Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(files[-1])
    return files


def pixels_of(file: Path) -> np.ndarray:
    """What `file` holds."""
    return np.asarray(Image.open(file))


def build(manifest: Manifest, cache_dir: Path, **options: object) -> ImageCache:
    settings = {"image_size": 16, "cache_dir": cache_dir, "hashes": hashes_of(manifest)} | options
    return build_cache(manifest, **settings)


def count_decodes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files decoded from now on."""
    names: list[str] = []
    real = cache_module.decode_sizes

    def counted(path: Path, image_sizes: Sequence[int], **options: Any) -> tuple[Decoded, ...]:
        names.append(path.name)
        return real(path, image_sizes, **options)

    monkeypatch.setattr(cache_module, "decode_sizes", counted)
    return names
