"""Another scanner's look: off is the identity, on is the exact transform, the generator alone decides."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torchvision.transforms.v2.functional import gaussian_blur

from tests.support.augmentation import require_generator_alone_decides
from tests.support.toy_training import run, toy_config, toy_data
from tune_btxrd.training.augment.images import affine, augment, resample
from tune_btxrd.training.augment.scanners import blurred, edges_cut, equalized
from tune_btxrd.training.slot import Slot

OFF = {"flip": 0, "rotation": 0, "scale_min": 1, "shift": 0, "brightness": 0, "contrast": 0}
ON = {"border": 0.2, "blur": 0.05, "gamma": 0.5, "equalize": 0.5, "invert": 0.5}


def generator(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch(count: int = 6, channels: int = 1, size: int = 16) -> torch.Tensor:
    levels = torch.randint(40, 200, (count, channels, size, size), generator=generator(0))
    return levels.float() / 255


@pytest.mark.parametrize("channels", [1, 3])
def test_equalize_1_is_pillow_s_own_and_invert_1_the_negative(channels: int) -> None:
    images = batch(channels=channels)
    out = augment(images, generator(), toy_config(**OFF | {"equalize": 1}))
    for before, after in zip(images, out, strict=True):
        for plane, equal in zip(before, after, strict=True):
            pixels = Image.fromarray((plane * 255).round().to(torch.uint8).numpy())
            assert torch.equal((equal * 255).round().to(torch.uint8), torch.from_numpy(np.array(ImageOps.equalize(pixels))))
    assert torch.equal(augment(images, generator(), toy_config(**OFF | {"invert": 1})), 1 - images)


def test_a_blank_image_stays_blank() -> None:
    blank = torch.full((2, 1, 8, 8), 0.4)
    assert torch.equal((equalized(blank) * 255).round(), (blank * 255).round())
    torch.testing.assert_close(augment(blank, generator(), toy_config(**OFF | {"blur": 0.05, "border": 0.3})), blank)


def test_blur_by_torchvision_and_none_at_0() -> None:
    images = batch()
    out = blurred(images, torch.tensor([0.0, 1.5, 0.0, 1.5, 0.7, 1.5]), reach=5)
    assert torch.equal(out[[0, 2]], images[[0, 2]])
    torch.testing.assert_close(out[[1, 3, 5]], gaussian_blur(images[[1, 3, 5]], [11, 11], [1.5, 1.5]), atol=1e-6, rtol=0)
    torch.testing.assert_close(out[[4]], gaussian_blur(images[[4]], [11, 11], [0.7, 0.7]), atol=1e-6, rtol=0)


def test_cut_edges_by_hand() -> None:
    images = batch(1, size=8)
    whole = affine(torch.zeros(1), torch.ones(1), torch.zeros(2, 1))
    shares = torch.tensor([[0.5], [0.0], [0.25], [0.25]])  # left half, a quarter at the top and at the bottom
    kept = torch.nn.functional.interpolate(images[..., 2:6, 4:], scale_factor=2, mode="bilinear", align_corners=False)
    cut = resample(images, edges_cut(whole, shares))
    torch.testing.assert_close(cut[..., 1:-1, 1:-1], kept[..., 1:-1, 1:-1], atol=1e-5, rtol=0)


def test_exponents_keep_their_bounds() -> None:
    out = augment(torch.full((500, 1, 2, 2), 0.5), generator(), toy_config(**OFF | {"gamma": 1.0}))
    exponents = (out.log() / torch.tensor(0.5).log())[:, 0, 0, 0]
    assert 0.5 <= exponents.min() < 0.51 and 1.98 < exponents.max() <= 2.0 and 0.45 < (exponents < 1).float().mean() < 0.55


def test_the_generator_alone_decides() -> None:
    first = require_generator_alone_decides(batch(), **OFF | ON)
    assert first.min() >= 0 and first.max() <= 1


@pytest.mark.parametrize("name", ON)
def test_each_kind_off_leaves_the_others_as_they_were(name: str) -> None:
    """The kinds commute with none of their neighbours, so each is compared on images where the others changed nothing."""
    images, others = batch(), {"flip": 0.5, "crop_min": 0.5, "erasing": 0.5}
    plain = augment(images, generator(), toy_config(**OFF | others))
    tiny = {"border": 1e-9, "blur": 1e-9, "gamma": 1e-9, "equalize": 1e-9, "invert": 1e-9}[name]
    torch.testing.assert_close(
        augment(images, generator(), toy_config(**OFF | others | {name: tiny})), plain, atol=1e-5, rtol=0
    )


def test_each_kind_reaches_the_training_and_0_is_as_without() -> None:
    slot, kinds = Slot(device="cpu"), [{}, dict.fromkeys(ON, 0.0), *({name: value} for name, value in ON.items())]
    rows = [run(slot.start(toy_config(epochs=1, **kind), toy_data(), keep_best=False)) for kind in kinds]
    losses = [row[0]["train_loss"] for row in rows]
    assert losses[0] == losses[1] and len(set(losses)) == 1 + len(ON)
