"""PhantomSpec: what decides the bytes of a phantom, of images or of volumes."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from tune_btxrd.errors import ConfigError

PhantomKind = Literal["images", "volumes"]
DRAWING = 4  # raise it with every change of the drawing: an older folder is then not taken for a new one
HEADS = 2  # the same of volumes
SIZES = {"images": (64, 4096), "volumes": (24, 256)}  # px or voxels
FEWEST = {"images": 18, "volumes": 12}
USUAL = {"images": (400, 384), "volumes": (120, 48)}  # count, size


@dataclass(frozen=True)
class PhantomSpec:
    """What decides the phantom's bytes, given the versions of NumPy, SciPy and Pillow (nibabel).

    Attributes:
        count: images, at least 18; of volumes patients, at least 12.
        size: pixels of the longest side, 64..4096, single images are down to a fifth smaller; of volumes voxels, 24..256.
        seed: at least 0.
        kind: images or volumes.

    Raises:
        ConfigError: a value is out of range.
    """

    count: int = 400
    size: int = 384
    seed: int = 0
    kind: PhantomKind = "images"

    @property
    def name(self) -> str:
        """A folder name that changes with whatever changes the samples."""
        if self.kind == "volumes":
            return f"phantom-volumes-{self.count}x{self.size}-seed{self.seed}-drawing{HEADS}"
        return f"phantom-{self.count}x{self.size}-seed{self.seed}-drawing{DRAWING}"

    @property
    def mark(self) -> dict[str, object]:
        """What the finished folder says of itself; images say what they said before there were volumes."""
        values: dict[str, object] = {**asdict(self), "drawing": HEADS if self.kind == "volumes" else DRAWING}
        return {name: value for name, value in values.items() if name != "kind" or value != "images"}

    def __post_init__(self) -> None:
        lowest, highest = SIZES[self.kind]
        if self.count < FEWEST[self.kind]:
            least = FEWEST[self.kind]
            why = "two per class and center, " if self.kind == "images" else ""
            raise ConfigError(f"A phantom needs at least {least} {self.kind}, {why}but got count={self.count}.")
        if not lowest <= self.size <= highest:
            unit = "pixels" if self.kind == "images" else "voxels"
            raise ConfigError(f"`{lowest} <= size <= {highest}` {unit} must hold for a phantom, but got size={self.size}.")
        if self.seed < 0:
            raise ConfigError(f"A phantom's seed is a whole number from 0 up, but got seed={self.seed}.")


def phantom_spec(kind: PhantomKind = "images", **shape: Any) -> PhantomSpec:
    """A phantom of this kind, with its usual count and size where none is said. Raises: ConfigError."""
    count, size = USUAL[kind]
    return PhantomSpec(**{"count": count, "size": size, **shape}, kind=kind)
