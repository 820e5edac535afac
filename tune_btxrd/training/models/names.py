"""Names of backbones: MONAI's for volumes, and timm's, read from its source in 20 ms; importing timm takes seconds."""

import importlib.util
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tune_btxrd.config import nearest, shown
from tune_btxrd.errors import ConfigError

REGISTERED = re.compile(r"^@register_model\s*\n(?:@.*\n)*def (\w+)\(", re.MULTILINE)
DEPRECATED = re.compile(r"^register_model_deprecations\(__name__, \{(.*?)^\}\)", re.MULTILINE | re.DOTALL)
ANY_CONFIG = frozenset(  # of images: take every `image_size`, `head`, `dropout` and `stages` (a test asks timm)
    ("efficientnet_b0", "resnet50", "mobilenetv3_small_100", "test_efficientnet", "test_resnet")
)

VOLUME_BACKBONES = ("resnet3d_10", "resnet3d_18", "resnet3d_34", "resnet3d_50")  # MONAI's, see models/volumes.py

SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")  # of files of weights in a folder


@dataclass(frozen=True, kw_only=True)
class ModelChoice:
    """What decides whether a model can be built, run and trained (see `fit.check_fit`).

    Attributes:
        has_dropout: `dropout` above 0; is_staged: see `TrainConfig.is_staged`.
    """

    backbone: str
    head: str
    image_size: int
    weights: str | None = None
    stem_stride: int = 1
    has_dropout: bool = False
    is_staged: bool = False


def is_volume_backbone(name: str) -> bool:
    """Whether a backbone takes volumes; every other one takes images."""
    return name in VOLUME_BACKBONES


def require_serving(backbone: str, *, volumes: bool) -> None:
    """Raises ConfigError where a backbone of images meets volumes, or the reverse."""
    if is_volume_backbone(backbone) == volumes:
        return
    what, known = ("volumes", "one of " + ", ".join(VOLUME_BACKBONES)) if volumes else ("images", "a timm model")
    raise ConfigError(f"`backbone` must take {what}, as the dataset holds them, but got {shown(backbone)}: use {known}.")


@cache
def backbone_names() -> frozenset[str]:
    """Names that `timm.create_model` knows, also those registered in this folder, without tags of pretrained weights."""
    spec = importlib.util.find_spec("timm")
    assert spec is not None
    assert spec.origin is not None
    names: set[str] = set()
    folders = (Path(spec.origin).parent / "models", Path(__file__).parent)
    for path in (path for folder in folders for path in folder.glob("*.py")):
        text = path.read_text(encoding="utf-8")
        names.update(REGISTERED.findall(text))
        for block in DEPRECATED.findall(text):
            names.update(re.findall(r"^\s*['\"]([\w.]+)['\"]\s*:", block, flags=re.MULTILINE))
    return frozenset(names)


def check_backbone(name: str) -> None:
    """Raises ConfigError, with the nearest name, where timm has no such model."""
    if is_volume_backbone(name):
        return
    if name.startswith("resnet3d"):
        cure = nearest(name, VOLUME_BACKBONES)
        raise ConfigError(f"`backbone` must be one that is known, but got {shown(name)}: {cure}")
    bare = name.partition(".")[0]  # resnet50.a1_in1k is resnet50 with certain pretrained weights
    if bare not in backbone_names() and name not in backbone_names():
        cure = nearest(bare, backbone_names()) if len(bare) > 2 else "known names:"
        cure = cure if cure.startswith("did") else "timm.list_models() lists them."
        raise ConfigError(f"`backbone` must be a timm model, but got {shown(name)}: {cure}")


def weights_file(path: Path, backbone: str) -> Path:
    """The file itself, or the backbone's file of a folder: <backbone>.safetensors, .pt, .pth or .bin, the first there is.

    Raises:
        ConfigError: there is neither, or the folder has none.
    """
    if path.is_file():
        return path
    if not path.is_dir():
        raise ConfigError(f"`--weights` must name a file or a folder, but {path} is none.")
    names = [f"{backbone}{suffix}" for suffix in SUFFIXES]
    found = [path / name for name in names if (path / name).is_file()]
    if not found:
        raise ConfigError(f"A folder of weights must hold each backbone's, but {path} has no {' or '.join(names)}: add it.")
    return found[0]
