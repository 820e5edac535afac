"""timm's model names, read from its source in 20 ms; importing timm takes seconds, since it brings torch and torchvision."""

import importlib.util
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tune_btxrd.config import nearest, shown
from tune_btxrd.errors import ConfigError

REGISTERED = re.compile(r"^@register_model\s*\n(?:@.*\n)*def (\w+)\(", re.MULTILINE)
DEPRECATED = re.compile(r"^register_model_deprecations\(__name__, \{(.*?)^\}\)", re.MULTILINE | re.DOTALL)
ANY_SIZE = frozenset(  # take every side that `image_size` allows and every head (a test asks timm)
    ("efficientnet_b0", "resnet50", "mobilenetv3_small_100", "test_efficientnet", "test_resnet")
)

SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")  # of files of weights in a folder


@dataclass(frozen=True, kw_only=True)
class ModelChoice:
    """What decides whether a model can be built and run (see `fit.check_fit`)."""

    backbone: str
    head: str
    image_size: int
    weights: str | None = None


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
