"""What every augmentation holds, whatever it does to an image."""

import torch

from tests.support.toy_training import toy_config
from tune_btxrd.training.augment.images import augment


def require_generator_alone_decides(images: torch.Tensor, **settings: float) -> torch.Tensor:
    """Asserts that neither the global generator nor the images move, and that the given generator decides; what came out."""

    def again(seed: int) -> torch.Tensor:
        return augment(images, torch.Generator().manual_seed(seed), toy_config(**settings))

    before, original = torch.get_rng_state(), images.clone()
    first = again(5)
    torch.rand(3)
    torch.set_rng_state(before)
    assert torch.equal(first, again(5))
    assert torch.equal(torch.get_rng_state(), before) and torch.equal(images, original)
    assert not torch.equal(first, again(6))
    return first
