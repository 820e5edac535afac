"""Augmentation: identities, exact mirrors, geometry and colours by hand, randomness from the generator alone."""

import pytest
import torch
from training_toy import toy_config

from tune_btxrd.training.augment import affine, augment, jitter, normalise, resample, to_float

OFF = {"flip": 0, "rotation": 0, "scale_min": 1, "shift": 0, "brightness": 0, "contrast": 0}


def generator(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch(count: int = 6, channels: int = 1, size: int = 8) -> torch.Tensor:
    return torch.rand(count, channels, size, size, generator=generator(0))


def test_everything_off_is_the_identity():
    images = batch()
    assert torch.equal(augment(images, generator(), toy_config(**OFF)), images)


def test_flip_1_is_the_exact_mirror():
    images = batch()
    assert torch.equal(augment(images, generator(), toy_config(**OFF | {"flip": 1})), images.flip(-1))


def test_flip_mirrors_some_and_leaves_the_rest():
    images = batch(200)
    out = augment(images, generator(), toy_config(**OFF | {"flip": 0.25}))
    mirrored = torch.stack([torch.equal(a, b.flip(-1)) * torch.tensor(1) for a, b in zip(out, images, strict=True)])
    same = torch.stack([torch.equal(a, b) * torch.tensor(1) for a, b in zip(out, images, strict=True)])
    assert mirrored.sum() + same.sum() == 200 and 30 <= mirrored.sum() <= 70


def test_randomness_comes_from_the_generator_alone():
    images, config = batch(), toy_config()
    before, original = torch.get_rng_state(), images.clone()
    first = augment(images, generator(5), config)
    torch.rand(3)
    torch.set_rng_state(before)
    assert torch.equal(first, augment(images, generator(5), config))
    assert torch.equal(torch.get_rng_state(), before) and torch.equal(images, original)
    assert not torch.equal(first, augment(images, generator(6), config))


def test_one_kind_off_leaves_the_others_as_they_were():
    images = batch()
    both = augment(images, generator(), toy_config(**OFF | {"flip": 0.5, "brightness": 0.3}))
    flipped = augment(images, generator(), toy_config(**OFF | {"flip": 0.5}))
    assert torch.equal(both, augment(flipped, generator(), toy_config(**OFF | {"brightness": 0.3})))


def transform(
    images: torch.Tensor, *, degrees: float = 0, scale: float = 1, right: float = 0, down: float = 0
) -> torch.Tensor:
    ones = torch.ones(len(images))
    return resample(images, affine(degrees * ones, scale * ones, torch.stack([right * ones, down * ones])))


def test_rotation_is_counter_clockwise():
    images = batch()
    torch.testing.assert_close(transform(images, degrees=90), images.rot90(1, (-2, -1)), atol=1e-5, rtol=0)


def test_shift_goes_right_and_down_and_leaves_black():
    images = batch()
    expected = torch.zeros_like(images)
    expected[..., 1:, 2:] = images[..., :-1, :-2]
    torch.testing.assert_close(transform(images, right=2 / 8, down=1 / 8), expected, atol=1e-5, rtol=0)


def test_scale_one_half_shrinks_into_the_middle():
    white = transform(torch.ones(1, 1, 8, 8), scale=0.5)[0, 0]
    assert torch.equal(white[2:6, 2:6], torch.ones(4, 4)) and white.sum() == 16


def test_turned_and_shrunk_at_once():
    images = batch()
    expected = transform(images.rot90(1, (-2, -1)), scale=0.5)
    torch.testing.assert_close(transform(images, degrees=90, scale=0.5), expected, atol=1e-5, rtol=0)


def test_shift_is_measured_in_the_turned_and_scaled_picture_s_own_output():
    point = torch.zeros(1, 1, 9, 9)
    point[..., 4, 4] = 1  # the centre does not move but by the shift
    moved = transform(point, degrees=90, scale=1, right=3 / 9)
    assert moved[0, 0, 4, 7] == pytest.approx(1, abs=1e-5)


def test_jitter_by_hand():
    images = torch.tensor([[[[0.2, 0.4]]], [[[0.2, 0.4]]], [[[0.5, 0.9]]]])
    out = jitter(images, brightness=torch.tensor([2.0, 1.0, 1.5]), contrast=torch.tensor([1.0, 0.5, 1.0]))
    expected = torch.tensor([[[[0.4, 0.8]]], [[[0.25, 0.35]]], [[[0.75, 1.0]]]])
    torch.testing.assert_close(out, expected)


def test_ranges_are_kept():
    factors = [
        augment(torch.full((500, 1, 2, 2), 0.5), generator(), toy_config(**OFF | {"brightness": 0.2})).mean((1, 2, 3))
    ]
    assert 0.4 <= factors[0].min() < 0.41 and 0.59 < factors[0].max() <= 0.6


@pytest.mark.parametrize("channels", [1, 3])
def test_float_and_normalised(channels: int):
    shape = (2, 4, 4) if channels == 1 else (2, 4, 4, 3)
    images = to_float(torch.full(shape, 51, dtype=torch.uint8))
    assert images.shape == (2, channels, 4, 4) and images.unique().tolist() == pytest.approx([0.2])
    out = normalise(images, torch.tensor([0.2, 0.1, 0.0]), torch.tensor([1.0, 0.5, 0.1]))
    assert out.shape == (2, 3, 4, 4) and out.is_contiguous(memory_format=torch.channels_last)
    assert out[1, :, 3, 3].tolist() == pytest.approx([0.0, 0.2, 2.0], abs=1e-6)
