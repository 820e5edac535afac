"""Decoded images of a dataset: one cache per image size, made together, with what each costs."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.table import Table

from tune_btxrd.console import make_table, progress, tell
from tune_btxrd.data.cache.cache import ImageCache, build_caches
from tune_btxrd.data.cache.hashes import file_hashes
from tune_btxrd.data.manifest import Manifest
from tune_btxrd.data.readers.names import examples
from tune_btxrd.data.request import DataRequest
from tune_btxrd.errors import DataError
from tune_btxrd.search.cost import pixel_costs


def open_caches(
    request: DataRequest, manifest: Manifest, image_sizes: Sequence[int], *, hashes: dict[str, str] | None = None
) -> dict[int, ImageCache]:
    """The decoded images of each size; what is not there yet is decoded, for all sizes together. Raises: DataError."""
    hashes = hashes if hashes is not None else image_hashes(request, manifest)
    with progress("decoded") as advance:
        caches = build_caches(
            manifest,
            image_sizes=image_sizes,
            cache_dir=request.cache_folder,
            hashes=hashes,
            spacing=request.spacing,
            window=request.view,
            progress=advance,
        )
    for image_size, cache in caches.items():
        tell(f"decoded to {image_size} px: {cache.path}")
    cache = caches[image_sizes[0]]  # their notes are alike
    for note in dict.fromkeys(cache.notes.values()):
        told = [image_id for image_id, found in cache.notes.items() if found == note]
        noun = "volume" if manifest.channels else "image"
        tell(f"  {len(told)} {noun}(s), {examples(told)}: {note}")
    return caches


def sizes_table(caches: Mapping[int, ImageCache], base: int) -> Table:
    """What each size of the images costs: on the disk, and an epoch at it relative to one at `base`."""
    costs = pixel_costs(caches, base=base, dimensions=3 if next(iter(caches.values())).channels else 2)
    rows = [(f"{size} px", f"{cache.images.nbytes / 1e6:,.1f} MB", f"{costs[size]:.2f}") for size, cache in caches.items()]
    return make_table("Image sizes", ("size", "on the disk", f"an epoch, relative to {base} px, by pixels"), rows)


def image_hashes(request: DataRequest, manifest: Manifest) -> dict[str, str]:
    """SHA-256 of each image's file; of none where only the table is at hand. Raises: DataError."""
    if request.table_only:
        return {}
    make_cache_folder(request.cache_folder)
    with progress("files checked") as advance:
        return file_hashes(manifest, cache_dir=request.cache_folder, progress=advance)


def make_cache_folder(folder: Path) -> None:
    """Raises DataError where the folder for decoded images cannot be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(
            f"Decoded images need a folder that can be written, but {folder}: {error.strerror}. Choose one with --cache."
        ) from error
