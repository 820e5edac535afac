"""Pixels and parts for nodes that do not see the driver's folders: packed once, unpacked once per node.

They travel through Ray's object store, which brings them to a node one time however many trials it runs. There they become
the same folders that the driver has, under the node's own cache folder, so that all its trials map the same pages.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
from filelock import FileLock

from tune_btxrd.data.cache.writer import IMAGES, INDEX
from tune_btxrd.training.source import Source


@dataclass(frozen=True, kw_only=True)
class Shipment:
    """What travels.

    Attributes:
        files: Ray's reference to {"cache/images.npy": uint8 array, "splits/common.csv": ...}.
        cache, splits: folder names on the node; each is decided by what decides its content.
    """

    files: Any
    cache: str
    splits: str


def pack(source: Source) -> Shipment:
    """Puts cache and split tables of the driver into the object store."""
    import ray

    cache, splits = Path(source.cache), sorted(Path(source.splits).glob("*.csv"))
    files = {f"cache/{name}": _bytes(cache / name) for name in (IMAGES, INDEX)}
    tables = {f"splits/{path.name}": _bytes(path) for path in splits}
    digest = hashlib.sha256(b"".join(name.encode() + content.tobytes() for name, content in tables.items())).hexdigest()
    return Shipment(files=ray.put(files | tables), cache=cache.name, splits=f"splits-{digest[:16]}")


def local_source(source: Source, shipment: Shipment | None) -> Source:
    """In a worker: the source with folders of this node, unpacked by the first process that needs them."""
    if shipment is None:
        return source
    root = node_cache()
    root.mkdir(parents=True, exist_ok=True)
    there = Path(source.cache)  # its name is decided by its content, so a folder of this name is the right one
    cache, splits = there if there.is_dir() else root / shipment.cache, root / shipment.splits
    with FileLock(root / f"{shipment.cache}.unpacking"):
        if not (cache.is_dir() and splits.is_dir()):
            _unpack(shipment, {"cache": cache, "splits": splits})
    return replace(source, cache=str(cache), splits=str(splits))


def node_cache() -> Path:
    """Where a node keeps what was unpacked: the same folder in which `prepare` keeps decoded images by default."""
    return Path(platformdirs.user_cache_dir("tune_btxrd"))


def scratch(name: str) -> Path:
    """Where a node writes a search's files on their way to the storage."""
    return node_cache() / "scratch" / name


def _unpack(shipment: Shipment, folders: Mapping[str, Path]) -> None:
    import ray

    files = ray.get(shipment.files)
    for kind, folder in folders.items():
        if folder.is_dir():
            continue
        aside = folder.with_name(f"{folder.name}.unpacked")
        aside.mkdir(exist_ok=True)
        for name, content in files.items():
            if name.startswith(f"{kind}/"):
                content.tofile(aside / Path(name).name)
        aside.rename(folder)  # a folder that exists is complete


def _bytes(path: Path) -> np.ndarray:
    return np.fromfile(path, dtype=np.uint8)
