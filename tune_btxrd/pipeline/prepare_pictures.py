"""The pictures that `prepare` draws: images by class and center, and what augmentation makes of them."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from tune_btxrd.console import tell
from tune_btxrd.data.cache.cache import ImageCache
from tune_btxrd.data.figure_text import figure_text
from tune_btxrd.data.manifest import Manifest
from tune_btxrd.data.sheets import contact_sheet
from tune_btxrd.data.volume_sheets import volume_sheet


def write_pictures(cache: ImageCache, manifest: Manifest, folder: Path, *, ids: tuple[str, ...], part: str) -> None:
    """Contact sheets of the images of a part, as `part` calls it: by class and center, and before and after augmentation.

    Of volumes: by class, in three planes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if manifest.channels:
        volume_sheet(cache, manifest, folder / "volumes.png", ids=ids, part=part)
        tell(f"picture: {folder / 'volumes.png'}")
        return
    contact_sheet(cache, manifest, folder / "images.png", ids=ids, part=part)
    # augmentation is torch's; a process of its own keeps torch out of the driver
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        pool.submit(draw_augmentation, cache.path, ids[:6], folder / "augmentation.png").result()
    tell(f"pictures: {folder / 'images.png'}, {folder / 'augmentation.png'}")


def draw_augmentation(cache_path: Path, ids: tuple[str, ...], path: Path) -> None:
    """A sheet with each image as it is (left) and as five epochs see it."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt
    import torch

    from tune_btxrd.config import TrainConfig
    from tune_btxrd.training.augment.images import augment, to_float

    cache = ImageCache.open(cache_path)
    images = to_float(torch.from_numpy(cache.images[cache.rows(ids)].copy()))
    columns = [images, *(augment(images, torch.Generator().manual_seed(epoch), TrainConfig()) for epoch in range(1, 6))]
    figure, axes = plt.subplots(len(ids), len(columns), figsize=(1.5 * len(columns), 1.5 * len(ids) + 0.4), squeeze=False)
    for row, image_id in enumerate(ids):
        for column, batch in enumerate(columns):
            axis = axes[row, column]
            axis.imshow(batch[row].permute(1, 2, 0).clamp(0, 1).numpy().squeeze(), cmap="gray", vmin=0, vmax=1)
            axis.set_axis_off()
            if row == 0:
                axis.set_title("as decoded" if column == 0 else f"epoch {column}", fontsize=9, pad=12)
        axes[row, 0].text(0, -2, figure_text(image_id), fontsize=6, va="bottom")
    figure.tight_layout(pad=0.4)
    figure.savefig(path, dpi=130)
    plt.close(figure)
