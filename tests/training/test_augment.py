"""Augmentation: identities, exact mirrors, geometry and colours by hand, randomness from the generator alone."""

import pytest
import torch

from tests.support.augmentation import require_generator_alone_decides
from tests.support.toy_training import run, toy_config, toy_data
from tune_btxrd.training.augment.images import (
    affine,
    augment,
    cropped,
    erase,
    jitter,
    normalise,
    recolour,
    resample,
    to_float,
)
from tune_btxrd.training.slot import Slot

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
    require_generator_alone_decides(batch())


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


def test_crop_by_hand():
    images, whole = batch(), affine(torch.zeros(6), torch.ones(6), torch.zeros(2, 6))
    same = cropped(whole, torch.tensor([[0.0], [0.5], [0.3], [0.7]]).expand(4, 6), smallest=0.25)
    torch.testing.assert_close(resample(images, same), images, atol=1e-5, rtol=0)  # the whole area, square
    quarter = torch.tensor([[1.0], [0.5], [0.0], [1.0]]).expand(4, 6)  # a quarter of the area, at the left, at the bottom
    doubled = resample(images, cropped(whole, quarter, smallest=0.25))
    corner = torch.nn.functional.interpolate(images[..., 4:, :4], scale_factor=2, mode="bilinear", align_corners=False)
    torch.testing.assert_close(doubled[..., 1:-1, 1:-1], corner[..., 1:-1, 1:-1], atol=1e-5, rtol=0)


def test_crops_keep_area_and_aspect_within_their_bounds():
    whole = affine(torch.zeros(500), torch.ones(500), torch.zeros(2, 500))
    theta = cropped(whole, torch.rand(4, 500, generator=generator()), smallest=0.5)
    width, height = theta[:, 0, 0], theta[:, 1, 1]
    assert 0.49 < (width * height).min() < 0.52 and (width * height).max() <= 1
    assert ((width / height) <= 4 / 3 + 1e-6).all() and ((width / height) >= 3 / 4 - 1e-6).all()
    assert (theta[:, 0, 2].abs() <= 1 - width + 1e-6).all() and (theta[:, 1, 2].abs() <= 1 - height + 1e-6).all()


def test_erasing_by_hand():
    images = batch(2, size=10)
    chosen = torch.tensor([True, False])
    drawn = torch.tensor([[0.25 - 0.02, 0.0]]).T / 0.31  # a quarter of the area for the first image
    out = erase(images, chosen, torch.stack([drawn[:, 0], torch.tensor([0.5, 0.5]), torch.zeros(2), torch.ones(2)]))
    assert torch.equal(out[1], images[1])
    expected = images[0].clone()
    expected[:, 5:, :5] = images[0].mean()
    torch.testing.assert_close(out[0], expected)


def test_erasing_chooses_by_probability_and_area():
    images = batch(400, size=20)
    out = augment(images, generator(), toy_config(**OFF | {"erasing": 0.25}))
    changed = (out != images).float().mean((1, 2, 3))
    assert 70 <= (changed > 0).sum() <= 130 and changed.max() < 0.40
    assert torch.equal(augment(images, generator(), toy_config(**OFF | {"erasing": 1e-9})), images)


def test_colours_by_hand():
    pixel = torch.tensor([0.6, 0.5, 0.4]).view(1, 3, 1, 1)
    one, none = torch.ones(1), torch.zeros(1)
    torch.testing.assert_close(recolour(pixel, one, none), pixel, atol=1e-5, rtol=0)
    grey = 0.299 * 0.6 + 0.587 * 0.5 + 0.114 * 0.4
    torch.testing.assert_close(recolour(pixel, none, none), torch.full((1, 3, 1, 1), grey), atol=1e-5, rtol=0)
    turned = recolour(pixel, one, torch.tensor([90.0]))
    torch.testing.assert_close(recolour(turned, one, torch.tensor([-90.0])), pixel, atol=1e-4, rtol=0)
    assert not torch.allclose(turned, pixel, atol=0.05)
    luma = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    torch.testing.assert_close((turned * luma).sum(), (pixel * luma).sum(), atol=1e-3, rtol=0)


def test_colour_jitter_leaves_grey_images_and_changes_coloured_ones():
    config = toy_config(**OFF | {"saturation": 0.5, "hue": 20})
    assert torch.equal(augment(batch(), generator(), config), batch())
    assert not torch.equal(augment(batch(channels=3), generator(), config), batch(channels=3))


def test_new_kinds_off_leave_the_others_as_they_were():
    images = batch()
    both = augment(images, generator(), toy_config(**OFF | {"flip": 0.5, "erasing": 0.5}))
    flipped = augment(images, generator(), toy_config(**OFF | {"flip": 0.5}))
    erased = augment(images, generator(), toy_config(**OFF | {"erasing": 0.5}))
    assert torch.equal(both != flipped, erased != images)


@pytest.mark.parametrize("kind", [{"crop_min": 0.5}, {"erasing": 1.0}])
def test_each_kind_reaches_the_training(kind: dict[str, float]):
    slot = Slot(device="cpu")
    plain, changed = (run(slot.start(toy_config(epochs=1, **more), toy_data(), keep_best=False)) for more in ({}, kind))
    assert plain[0]["train_loss"] != changed[0]["train_loss"]
