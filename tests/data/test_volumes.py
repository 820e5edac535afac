"""Decoded volumes: z-score, crop, size, grids, spacing, missing channels; their cache; 8 bits against float16."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from tests.support.paths import ROOT
from tests.support.volumes import head, save, write_table
from tune_btxrd.data.cache import volumes
from tune_btxrd.data.cache.cache import ImageCache, build_cache
from tune_btxrd.data.cache.decode import UnreadableError
from tune_btxrd.data.cache.hashes import file_hashes
from tune_btxrd.data.cache.volume_files import Volume
from tune_btxrd.data.cache.volumes import CLIP, decode_volume, resize_weights, volume_levels
from tune_btxrd.data.manifest import Manifest
from tune_btxrd.data.readers.channels import ChannelRequest
from tune_btxrd.data.readers.registry import read_dataset
from tune_btxrd.errors import DataError

pytest.importorskip("nibabel")
PLANTED = ROOT.parent / "shared" / "data" / "volumes_planted"


def build(manifest: Manifest, folder: Path, *, size: int = 12, spacing: float | None = None, workers: int = 2) -> ImageCache:
    hashes = file_hashes(manifest, cache_dir=folder)
    return build_cache(manifest, image_size=size, cache_dir=folder, hashes=hashes, spacing=spacing, workers=workers)


def scored(voxels: np.ndarray) -> np.ndarray:
    """The slow reference: z-score of what is not zero, clipped, on 1..255."""
    inside = voxels[voxels != 0].astype(np.float64)
    scores = np.clip((voxels - inside.mean()) / inside.std(), -CLIP, CLIP)
    return np.where(voxels != 0, 1 + (scores + CLIP) / (2 * CLIP) * 254, 0)


def test_a_cube_without_a_margin_is_the_z_score_itself(tmp_path: Path) -> None:
    voxels = np.random.default_rng(0).integers(1, 999, (10, 10, 10)).astype(np.int16)
    voxels[4, 4, 4] = 0
    cube = decode_volume([save(voxels, tmp_path / "a.nii")], 10, channels=["c"]).pixels
    np.testing.assert_array_equal(cube[..., 0], np.rint(scored(voxels)))


def test_background_around_is_cropped_and_proportions_are_kept(tmp_path: Path) -> None:
    voxels = np.random.default_rng(0).integers(1, 999, (8, 4, 2)).astype(np.int16)
    wide = np.pad(voxels, ((5, 1), (2, 3), (0, 9)))
    cube = decode_volume([save(wide, tmp_path / "a.nii")], 8, channels=["c"]).pixels[..., 0]
    np.testing.assert_array_equal(cube[:, 2:6, 3:5], np.rint(scored(voxels)))
    assert np.count_nonzero(cube) == voxels.size


@pytest.mark.parametrize(("slope", "intercept"), [(1.0, -1024.0), (0.01, 7.0)])
def test_a_background_that_is_not_zero_is_background_too(tmp_path: Path, slope: float, intercept: float) -> None:
    voxels = head(1)
    plain = decode_volume([save(voxels, tmp_path / "a.nii")], 12, channels=["c"]).pixels
    shifted = decode_volume([save(voxels * slope + intercept, tmp_path / "b.nii")], 12, channels=["c"]).pixels
    np.testing.assert_array_equal(shifted, plain)


def test_what_is_no_number_is_background_and_is_said(tmp_path: Path) -> None:
    voxels = head(1).astype(np.float32)
    plain = decode_volume([save(voxels, tmp_path / "a.nii")], 12, channels=["c"]).pixels
    voxels[voxels == 0] = np.nan
    found = decode_volume([save(voxels, tmp_path / "b.nii")], 12, channels=["c"])
    np.testing.assert_array_equal(found.pixels, plain)
    assert found.note == "c: voxels that are no numbers are background"
    with pytest.raises(UnreadableError, match="NaN everywhere"):
        decode_volume([save(voxels * np.nan, tmp_path / "c.nii")], 12, channels=["c"])


def test_a_channel_on_another_grid_is_resampled_to_the_first_and_it_is_said(tmp_path: Path) -> None:
    smooth = np.clip(8 - np.linalg.norm(np.indices((16, 16, 16)) - 7.5, axis=0), 0, None).astype(np.float32)
    first = save(smooth, tmp_path / "flair.nii")
    affine = np.diag([-2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = [14, 0, 0]
    other = save(smooth[::2, ::2, ::2][::-1], tmp_path / "t1ce.nii", affine=affine)
    found = decode_volume([first, other], 16, channels=["flair", "t1ce"])
    assert found.note == "t1ce: resampled to the grid of flair"
    alone = decode_volume([first, first], 16, channels=["flair", "t1ce"])
    assert alone.note == ""
    inner = slice(4, 12), slice(4, 12), slice(4, 12)
    assert np.corrcoef(found.pixels[inner][..., 1].ravel(), alone.pixels[inner][..., 1].ravel())[0, 1] > 0.97
    far = save(smooth, tmp_path / "far.nii", affine=np.array([[1, 0, 0, 900], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]))
    with pytest.raises(UnreadableError, match="no voxel is shared"):
        decode_volume([first, far], 16, channels=["flair", "t1ce"])


def test_spacing_gives_thick_slices_their_proportions(tmp_path: Path) -> None:
    distance = np.linalg.norm(np.indices((24, 24, 24)) - 11.5, axis=0)
    ball = np.where(distance < 10, 12 - distance, 0).astype(np.float32)
    thin = save(ball, tmp_path / "thin.nii")
    thick = save(ball[:, :, ::4], tmp_path / "thick.nii", affine=np.diag([1.0, 1.0, 4.0, 1.0]))
    as_is, even = (decode_volume([thick], 20, channels=["c"], spacing=mm).pixels[..., 0] > 0 for mm in (None, 1.0))
    sides = [[int(cube.any(axis=tuple(set(range(3)) - {axis})).sum()) for axis in range(3)] for cube in (as_is, even)]
    assert sides[0][2] < 8 and min(sides[1]) >= 16
    same = decode_volume([thin], 20, channels=["c"], spacing=1.0).pixels
    np.testing.assert_array_equal(same, decode_volume([thin], 20, channels=["c"]).pixels)


def test_shrinking_leaves_no_voxel_out() -> None:
    for before, after in ((240, 32), (33, 32), (10, 40), (7, 7)):
        weights = resize_weights(before, after)
        np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-5)
        assert (weights.sum(axis=0) > 0).all()
    np.testing.assert_allclose(resize_weights(7, 7), np.eye(7), atol=1e-7)
    np.testing.assert_allclose(resize_weights(4, 2) @ np.arange(4), [5 / 7, 16 / 7], rtol=1e-5)


@pytest.mark.skipif(not PLANTED.is_dir(), reason="needs ../shared/data/volumes_planted")
def test_eight_bits_say_what_float16_says() -> None:
    for path in sorted(PLANTED.glob("*.nii.gz"))[:4]:
        levels, _ = volume_levels([path], 48, channels=["c"])
        inside = levels > 0
        scores = (levels[inside] - 1) / 254 * 2 * CLIP - CLIP
        eight = (np.rint(levels[inside]) - 1) / 254 * 2 * CLIP - CLIP
        assert np.corrcoef(scores.astype(np.float16).astype(np.float64), eight)[0, 1] > 0.9998
        assert np.abs(eight - scores).max() <= CLIP / 254 * 1.01


def test_the_cache_holds_cubes_with_their_channels_and_decodes_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = read_dataset(write_table(tmp_path / "own"))
    cache = build(manifest, tmp_path / "cache", spacing=1.0)
    assert cache.images.shape == (8, 12, 12, 12, 2) and cache.images.dtype == np.uint8 and cache.image_size == 12
    assert cache.channels == ("flair", "t1ce") and cache.spacing == 1.0 and isinstance(cache.images, np.memmap)
    files = [file for file in manifest.volumes[3] if file is not None]
    np.testing.assert_array_equal(cache.images[3], decode_volume(files, 12, channels=cache.channels).pixels)
    monkeypatch.setattr(volumes, "volume_cubes", None)  # nothing may be decoded again
    assert build(manifest, tmp_path / "cache", spacing=1.0).path == cache.path
    rest = manifest.without(["P3"])
    np.testing.assert_array_equal(build(rest, tmp_path / "cache", spacing=1.0).images[3], cache.images[4])


def test_order_of_channels_spacing_and_files_decide_the_name(tmp_path: Path) -> None:
    root = write_table(tmp_path / "own", count=4)
    manifest = read_dataset(root)
    turned = read_dataset(root, channels=ChannelRequest(names=("t1ce", "flair")))
    folder = tmp_path / "cache"
    one, other = build(manifest, folder), build(turned, folder)
    np.testing.assert_array_equal(one.images[..., ::-1], other.images)
    names = {
        one.path.name,
        other.path.name,
        build(manifest, folder, spacing=2.0).path.name,
        build(manifest, folder, size=8).path.name,
    }
    save(head(77), root / "P0_flair.nii.gz")
    names.add(build(manifest, folder).path.name)
    assert len(names) == 5 and manifest.sha256 != turned.sha256


def test_worker_processes_give_the_same_bytes(tmp_path: Path) -> None:
    manifest = read_dataset(write_table(tmp_path / "own", count=10))
    one, many = (build(manifest, tmp_path / f"cache{workers}", workers=workers) for workers in (1, 2))
    assert one.path.name == many.path.name
    assert (one.path / "images.npy").read_bytes() == (many.path / "images.npy").read_bytes()


def test_unreadable_volumes_are_all_named_in_one_line_and_the_rest_is_kept(tmp_path: Path) -> None:
    root = write_table(tmp_path / "own")
    save(np.zeros((4, 4, 4), dtype=np.int16), root / "P1_flair.nii.gz")
    (root / "P2_t1ce.nii.gz").write_bytes(b"")
    manifest = read_dataset(root)
    with pytest.raises(DataError, match=r"2 of 8 are not: P1 is zero everywhere; P2 is empty \(0 bytes\)\. .*--exclude"):
        build(manifest, tmp_path / "cache")
    assert len(build(manifest.without(["P1", "P2"]), tmp_path / "cache").images) == 6


def test_a_file_that_changed_since_it_was_hashed_is_refused(tmp_path: Path) -> None:
    manifest = read_dataset(write_table(tmp_path / "own", count=4))
    hashes = file_hashes(manifest, cache_dir=tmp_path / "cache")
    save(head(50), tmp_path / "own" / "P0_flair.nii.gz")
    with pytest.raises(DataError, match="P0 has changed since it was hashed"):
        build_cache(manifest, image_size=8, cache_dir=tmp_path / "cache", hashes=hashes)


def test_a_missing_channel_is_zeros_and_is_said(tmp_path: Path) -> None:
    manifest = read_dataset(write_table(tmp_path / "own", lacking=[(2, "flair")]), channels=ChannelRequest(missing="zero"))
    cache = build(manifest, tmp_path / "cache")
    assert not cache.images[2, ..., 0].any() and cache.images[2, ..., 1].any()
    assert cache.notes == {"P2": "flair is missing: zeros"}
    assert dataclasses.replace(manifest).volumes[2][0] is None


def test_resampled_voxels_keep_their_places() -> None:
    ramp = np.tile(np.arange(8.0), (4, 4, 1))
    found = volumes._at_spacing(Volume(voxels=ramp, affine=np.diag([1.0, 1.0, 2.0, 1.0])), 1.0)
    assert found.voxels.shape == (4, 4, 16) and found.affine[2, 3] == -0.5
    np.testing.assert_allclose(found.voxels[2, 2, 1:-1], (np.arange(1, 15) + 0.5) / 2 - 0.5, atol=1e-6)
