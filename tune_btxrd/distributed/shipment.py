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
        caches: folder name of each size's cache -> Ray's reference to {"images.npy": uint8 array, "index.json": ...}.
        tables: Ray's reference to {"common.csv": ...}; splits: their folder's name.
        A folder's name is decided by what decides its content.
    """

    caches: Mapping[str, Any]
    tables: Any
    splits: str


def pack(source: Source) -> Shipment:
    """Puts cache and split tables of the driver into the object store."""
    import ray

    caches = {
        cache.name: ray.put({name: _bytes(cache / name) for name in (IMAGES, INDEX)}) for cache in map(Path, source.caches)
    }
    tables = {path.name: _bytes(path) for path in sorted(Path(source.splits).glob("*.csv"))}
    digest = hashlib.sha256(b"".join(name.encode() + content.tobytes() for name, content in tables.items())).hexdigest()
    return Shipment(caches=caches, tables=ray.put(tables), splits=f"splits-{digest[:16]}")


def local_source(source: Source, shipment: Shipment | None) -> Source:
    """In a worker: the source with folders of this node, unpacked by the first process that needs them; of several sizes
    (`Source.at`) the one that is asked for.
    """
    if shipment is None:
        return source
    root = node_cache()
    root.mkdir(parents=True, exist_ok=True)
    there = Path(source.cache)  # its name is decided by its content, so a folder of this name is the right one
    cache, splits = there if there.is_dir() else root / there.name, root / shipment.splits
    for folder, files in ((cache, shipment.caches[there.name]), (splits, shipment.tables)):
        with FileLock(root / f"{folder.name}.unpacking"):
            if not folder.is_dir():
                _unpack(files, folder)
    return replace(source, cache=str(cache), splits=str(splits))


def node_cache() -> Path:
    """Where a node keeps what was unpacked: the same folder in which `prepare` keeps decoded images by default."""
    return Path(platformdirs.user_cache_dir("tune_btxrd"))


def scratch(name: str) -> Path:
    """Where a node writes a search's files on their way to the storage."""
    return node_cache() / "scratch" / name


def _unpack(reference: Any, folder: Path) -> None:
    import ray

    aside = folder.with_name(f"{folder.name}.unpacked")
    aside.mkdir(exist_ok=True)
    for name, content in ray.get(reference).items():
        content.tofile(aside / name)
    aside.rename(folder)  # a folder that exists is complete


def _bytes(path: Path) -> np.ndarray:
    return np.fromfile(path, dtype=np.uint8)
