"""The pictures that `prepare` draws: images by class and center, and what augmentation makes of them."""

from pathlib import Path

from tune_btxrd.console import tell
from tune_btxrd.data.cache.cache import ImageCache
from tune_btxrd.data.figure_text import figure_text
from tune_btxrd.data.manifest import Manifest
from tune_btxrd.data.sheets import contact_sheet
from tune_btxrd.data.volume_sheets import volume_sheet
from tune_btxrd.distributed.forks import in_background

EPOCHS = 5
SCANNERS = {
    "border": 0.2,
    "blur": 0.03,
    "gamma": 1.0,
    "equalize": 1.0,
    "invert": 1.0,
}  # each alone, strong enough to be seen
STILL = {"flip": 0.0, "rotation": 0.0, "scale_min": 1.0, "shift": 0.0, "brightness": 0.0, "contrast": 0.0}


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
    # augmentation is torch's, and nothing waits for it
    in_background(draw_augmentation, cache.path, ids[:6], folder / "augmentation.png")
    tell(f"pictures: {folder / 'images.png'}, {folder / 'augmentation.png'}")


def draw_augmentation(cache_path: Path, ids: tuple[str, ...], path: Path) -> None:
    """A sheet with each image as it is (left), as five epochs see it, and as each kind that is off by default makes it."""
    import torch
    from matplotlib.figure import Figure  # not pyplot: in a notebook its backend is the user's

    from tune_btxrd.config import TrainConfig
    from tune_btxrd.training.augment.images import augment, to_float

    cache = ImageCache.open(cache_path)
    images = to_float(torch.from_numpy(cache.images[cache.rows(ids)].copy()))
    columns = {"as decoded": images}
    for epoch in range(1, EPOCHS + 1):
        columns[f"epoch {epoch}"] = augment(images, torch.Generator().manual_seed(epoch), TrainConfig())
    for name, strength in SCANNERS.items():
        config = TrainConfig.from_dict({**STILL, name: strength})
        columns[f"{name} {strength:g}"] = augment(images, torch.Generator().manual_seed(0), config)
    figure = Figure(figsize=(1.5 * len(columns), 1.5 * len(ids) + 0.4))
    axes = figure.subplots(len(ids), len(columns), squeeze=False)
    for column, (title, batch) in enumerate(columns.items()):
        for axis, pixels in zip(axes[:, column], batch, strict=True):
            axis.imshow(pixels.permute(1, 2, 0).clamp(0, 1).numpy().squeeze(), cmap="gray", vmin=0, vmax=1)
            axis.set_axis_off()
        axes[0, column].set_title(title, fontsize=9, pad=12)
    for axis, image_id in zip(axes[:, 0], ids, strict=True):
        axis.text(0, -2, figure_text(image_id), fontsize=6, va="bottom")
    figure.tight_layout(pad=0.4, h_pad=1.0)  # names stand between the rows
    figure.savefig(path, dpi=130)
