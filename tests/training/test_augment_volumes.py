"""Augmentation of volumes: identity, exact mirrors, geometry and intensities by hand, randomness from the generator."""

import math

import numpy as np
import pytest
import torch

from tests.support.toy_volumes import volume_config, volume_data
from tune_btxrd.data.cache.arrays import normalised
from tune_btxrd.training.augment.kinds import kind_of, serving
from tune_btxrd.training.augment.volumes import (
    AXES,
    DEVIATION,
    MIDDLE,
    VOLUMES,
    affine,
    augment,
    intensities,
    is_background,
    level_normalization,
    normalise,
    resample,
    to_float,
)

OFF = {"flip": 0, "rotation": 0, "scale_min": 1, "shift": 0, "brightness": 0, "contrast": 0}
ALL = {"flip": 0.5, "flip_front": 0.5, "flip_up": 0.5, "rotation": 20, "scale_min": 0.7, "shift": 0.1, "brightness": 0.3}
ALL |= {"contrast": 0.3, "intensity_shift": 0.5, "gamma": 0.4, "noise": 0.2}


def generator(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch(count: int = 4, channels: int = 2, side: int = 8) -> torch.Tensor:
    return 0.2 + 0.6 * torch.rand(count, channels, side, side, side, generator=generator(0))


def test_everything_off_is_the_identity():
    volumes = batch()
    assert augment(volumes, generator(), volume_config(**OFF)) is volumes


@pytest.mark.parametrize(("name", "axis"), list(zip(("flip", "flip_front", "flip_up"), AXES, strict=True)))
def test_a_mirror_of_probability_1_is_exact(name, axis):
    volumes = batch()
    assert torch.equal(augment(volumes, generator(), volume_config(**OFF | {name: 1})), volumes.flip(axis))


def test_randomness_comes_from_the_generator_alone():
    volumes, config = batch(), volume_config(**ALL)
    before, original = torch.get_rng_state(), volumes.clone()
    first = augment(volumes, generator(5), config)
    torch.rand(3)
    assert torch.equal(first, augment(volumes, generator(5), config))
    torch.set_rng_state(before)
    augment(volumes, generator(5), config)
    assert torch.equal(torch.get_rng_state(), before) and torch.equal(volumes, original)
    assert not torch.equal(first, augment(volumes, generator(6), config))


@pytest.mark.parametrize("name", ALL)
def test_every_field_changes_something(name):
    volumes = batch()
    assert not torch.equal(augment(volumes, generator(), volume_config(**OFF | {name: ALL[name]})), volumes)


def test_one_kind_off_leaves_the_others_as_they_were():
    volumes = batch()
    both = augment(volumes, generator(), volume_config(**OFF | {"flip_up": 0.5, "contrast": 0.3}))
    flipped = augment(volumes, generator(), volume_config(**OFF | {"flip_up": 0.5}))
    assert torch.equal(both, augment(flipped, generator(), volume_config(**OFF | {"contrast": 0.3})))


def moved(volumes: torch.Tensor, degrees=(0, 0, 0), scale: float = 1, shift=(0, 0, 0)) -> torch.Tensor:
    columns = [torch.tensor([values], dtype=torch.float32).T.expand(3, len(volumes)) for values in (degrees, shift)]
    return resample(volumes, affine(columns[0], torch.full((len(volumes),), float(scale)), columns[1]))


@pytest.mark.parametrize(("axis", "plane"), [(0, (3, 4)), (1, (4, 2)), (2, (2, 3))])
def test_rotations_are_about_one_axis_and_counter_clockwise(axis, plane):
    volumes = batch()
    degrees = [90 if index == axis else 0 for index in range(3)]
    torch.testing.assert_close(moved(volumes, degrees), volumes.rot90(1, plane), atol=1e-5, rtol=0)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_shift_moves_by_whole_voxels(axis):
    volumes = batch()
    wanted = volumes.roll(2, AXES[axis])
    wanted.narrow(AXES[axis], 0, 2).fill_(MIDDLE)
    shift = [0.25 if index == axis else 0 for index in range(3)]
    torch.testing.assert_close(moved(volumes, shift=shift), wanted, atol=1e-5, rtol=0)


def test_scale_shrinks_towards_the_middle():
    out = moved(torch.ones(1, 1, 8, 8, 8), scale=0.5)
    inside = (out - MIDDLE) / (1 - MIDDLE)
    assert float(inside.sum()) == pytest.approx(64, rel=0.02) and float(inside[0, 0, 3:5, 3:5, 3:5].min()) == pytest.approx(
        1
    )


def test_intensities_by_hand():
    volumes = torch.tensor([MIDDLE, 0.4, 0.6]).view(1, 1, 3, 1, 1)
    one = torch.ones(4, 1, 1)

    def found(**fields: float) -> list[float]:
        return intensities(volumes, one, volume_config(**OFF | fields)).flatten().tolist()

    assert found(contrast=0.5) == pytest.approx([MIDDLE, MIDDLE + 1.5 * (0.4 - MIDDLE), MIDDLE + 1.5 * (0.6 - MIDDLE)])
    assert found(brightness=0.2) == pytest.approx([MIDDLE, 0.48, 0.72])
    assert found(intensity_shift=2) == pytest.approx([MIDDLE, 0.4 + 2 * DEVIATION, 0.6 + 2 * DEVIATION])
    assert found(gamma=1) == pytest.approx([MIDDLE, 0.16, 0.36])


def test_noise_has_its_size_and_leaves_the_background():
    volumes = torch.full((1, 1, 40, 40, 40), 0.45)
    volumes[..., :4] = MIDDLE
    out = augment(volumes, generator(), volume_config(**OFF | {"noise": 0.5}))
    assert torch.equal(out[..., :4], volumes[..., :4])
    assert float(out[..., 4:].std()) == pytest.approx(0.5 * DEVIATION, rel=0.02)


def test_normalisation_gives_back_z_scores():
    levels = torch.tensor([1, 128, 255, 0], dtype=torch.uint8).view(1, 4, 1, 1, 1)
    mean, std = (torch.tensor(values) for values in level_normalization(1))
    assert normalise(to_float(levels), mean, std).flatten().tolist() == pytest.approx([-5, 0, 5, 0], abs=1e-5)


def test_torch_and_numpy_prepare_alike():
    samples = volume_data(channels=3, side=16).images[:2]
    mean, std = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)
    ours = normalise(to_float(torch.from_numpy(samples.copy())), torch.tensor(mean), torch.tensor(std))
    np.testing.assert_allclose(ours.numpy(), normalised(samples, mean=mean, std=std), atol=1e-5)


def test_a_turned_volume_has_background_where_nothing_was():
    volumes = to_float(torch.from_numpy(volume_data(side=16).images[:2].copy()))
    out = augment(volumes, generator(), volume_config(**OFF | {"rotation": 45, "noise": 0.1, "intensity_shift": 1}))
    assert bool(is_background(out[..., 0, 0, 0]).all()) and not bool(is_background(out[..., 8, 8, 8]).any())


def test_the_kind_is_found():
    samples = volume_data().images
    assert kind_of(samples) is VOLUMES is serving("resnet3d_18")
    assert VOLUMES.pixels(samples) == 32**3 and VOLUMES.channels(samples) == 1 and math.prod((1, 32)) == 32
    assert VOLUMES.blank(2, 16, torch.device("cpu"), channels=3).shape == (2, 3, 16, 16, 16)
