"""decode_image: geometry, orientation, modes and greyness against hand-made pictures; closeness to full-scale decoding."""

import hashlib
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.paths import SHARED
from tune_btxrd.data.cache.decode import UPRIGHT, UnreadableError, decode_image

SAMPLE = SHARED / "btxrd_sample30" / "images"


def saved(path: Path, pixels: np.ndarray | Image.Image, **options: object) -> Path:
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(path, **options)
    return path


def grey(value: int, *, width: int = 8, height: int = 8) -> np.ndarray:
    return np.full((height, width), value, dtype=np.uint8)


def quadrants() -> np.ndarray:
    """8 x 8: four quarters of 10, 80, 160, 240, so that all eight orientations differ."""
    return np.kron(np.array([[10, 80], [160, 240]], dtype=np.uint8), np.ones((4, 4), dtype=np.uint8))


def test_wide_picture_is_centred_on_black_with_its_aspect(tmp_path: Path) -> None:
    pixels = decode_image(saved(tmp_path / "a.png", grey(200, width=40, height=20)), 8)
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, np.vstack([grey(0, height=2), grey(200, height=4), grey(0, height=2)]))


def test_tall_picture_is_centred_on_black_with_its_aspect(tmp_path: Path) -> None:
    pixels = decode_image(saved(tmp_path / "a.png", grey(200, width=20, height=40)), 8)
    np.testing.assert_array_equal(pixels, np.hstack([grey(0, width=2), grey(200, width=4), grey(0, width=2)]))


def test_small_picture_is_enlarged_and_a_line_keeps_one_pixel(tmp_path: Path) -> None:
    np.testing.assert_array_equal(decode_image(saved(tmp_path / "a.png", grey(7, width=2, height=2)), 8), grey(7))
    line = decode_image(saved(tmp_path / "b.png", grey(7, width=500, height=1)), 8)
    assert (line == 7).sum() == 8 and (line == 0).sum() == 56


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_honoured(tmp_path: Path, orientation: int) -> None:
    undo = {6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270} | {k: UPRIGHT[k] for k in (2, 3, 4, 5, 7)}
    stored = Image.fromarray(quadrants())
    if orientation > 1:
        stored = stored.transpose(undo[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    np.testing.assert_array_equal(decode_image(saved(tmp_path / "a.png", stored, exif=exif), 8), quadrants())


def test_exif_rotation_6_means_turn_clockwise(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # EXIF 2.3: row 0 of the file is the right side of the picture
    pixels = decode_image(saved(tmp_path / "a.png", quadrants(), exif=exif), 8)
    assert [pixels[0, 0], pixels[0, 7], pixels[7, 0], pixels[7, 7]] == [160, 10, 240, 80]


def test_orientation_changes_the_aspect_of_a_scaled_jpeg(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 8
    pixels = decode_image(saved(tmp_path / "a.jpeg", grey(100, width=400, height=200), exif=exif), 8)
    np.testing.assert_array_equal(pixels, np.hstack([grey(0, width=2), grey(100, width=4), grey(0, width=2)]))


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "P", "CMYK"])
def test_grey_content_is_grey_in_every_mode(tmp_path: Path, mode: str) -> None:
    image = Image.fromarray(quadrants())
    image = image.convert(mode) if mode == "P" else image.convert("RGB").convert(mode)
    suffix = "tiff" if mode == "CMYK" else "png"
    pixels = decode_image(saved(tmp_path / f"a.{suffix}", image), 8)
    assert pixels.shape == (8, 8)
    assert np.abs(pixels.astype(int) - quadrants()).max() <= 1


def test_one_bit_pictures_are_black_and_white(tmp_path: Path) -> None:
    image = Image.fromarray(quadrants() > 100)
    np.testing.assert_array_equal(decode_image(saved(tmp_path / "a.png", image), 8), np.where(quadrants() > 100, 255, 0))


def test_colour_stays_colour_and_its_padding_is_black(tmp_path: Path) -> None:
    red = np.zeros((4, 8, 3), dtype=np.uint8)
    red[..., 0] = 200
    pixels = decode_image(saved(tmp_path / "a.png", red), 8)
    assert pixels.shape == (8, 8, 3)
    np.testing.assert_array_equal(pixels[2:6], red)
    assert pixels[:2].max() == pixels[6:].max() == 0


def test_cmyk_jpeg_is_not_inverted(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.jpeg", Image.new("CMYK", (64, 64), (0, 255, 255, 0)))  # no cyan, all magenta and yellow: red
    pixels = decode_image(path, 8)
    assert pixels[4, 4, 0] > 240 and pixels[4, 4, 1:].max() < 15


def test_transparent_parts_are_black_and_their_hidden_colour_does_not_count(tmp_path: Path) -> None:
    picture = np.zeros((8, 8, 4), dtype=np.uint8)
    picture[:4] = (90, 90, 90, 255)
    picture[4:] = (255, 0, 0, 0)
    pixels = decode_image(saved(tmp_path / "a.png", picture), 8)
    np.testing.assert_array_equal(pixels, np.vstack([grey(90, height=4), grey(0, height=4)]))
    half = decode_image(saved(tmp_path / "b.png", np.full((8, 8, 4), 128, dtype=np.uint8)), 8)
    np.testing.assert_array_equal(half, grey(64))


def test_a_transparent_palette_entry_is_black(tmp_path: Path) -> None:
    image = Image.fromarray(np.repeat(np.array([[0, 1]], dtype=np.uint8), 4, axis=1).repeat(8, axis=0), mode="P")
    image.putpalette([50, 50, 50, 200, 200, 200])
    pixels = decode_image(saved(tmp_path / "a.png", image, transparency=1), 8)
    np.testing.assert_array_equal(pixels, np.hstack([grey(50, width=4), grey(0, width=4)]))


def test_16_bit_pictures_are_stretched_from_darkest_to_brightest(tmp_path: Path) -> None:
    twelve_bit = np.repeat(np.array([[1000, 2000, 3000, 4000]], dtype=np.uint16), 2, axis=1).repeat(8, axis=0)
    pixels = decode_image(saved(tmp_path / "a.png", twelve_bit), 8)
    np.testing.assert_array_equal(pixels[0], [0, 0, 85, 85, 170, 170, 255, 255])
    np.testing.assert_array_equal(decode_image(saved(tmp_path / "b.tiff", twelve_bit.astype(np.float32)), 8), pixels)
    np.testing.assert_array_equal(decode_image(saved(tmp_path / "c.tiff", twelve_bit.astype(np.int32)), 8), pixels)
    constant = decode_image(saved(tmp_path / "d.png", np.full((8, 8), 4000, dtype=np.uint16)), 8)
    np.testing.assert_array_equal(constant, grey(0))


def test_16_bit_big_endian_is_read_in_its_order(tmp_path: Path) -> None:
    header = b"P5 2 2 65535\n"
    (tmp_path / "a.pgm").write_bytes(header + np.array([[256, 512], [256, 512]], dtype=">u2").tobytes())
    np.testing.assert_array_equal(decode_image(tmp_path / "a.pgm", 2), [[0, 255], [0, 255]])


def test_chroma_noise_and_a_small_mark_are_grey_a_cast_and_a_large_mark_are_colour(tmp_path: Path) -> None:
    def marked(share: float, cast: int = 0) -> np.ndarray:
        picture = np.full((100, 100, 3), 100, dtype=np.uint8)
        picture[..., 2] += np.uint8(cast)
        picture.reshape(-1, 3)[: round(share * 10_000)] = (255, 0, 0)
        return decode_image(saved(tmp_path / "a.png", picture), 100)

    assert marked(0.01).ndim == 2
    assert marked(0.011).ndim == 3
    assert marked(0, cast=16).ndim == 2
    assert marked(0, cast=17).ndim == 3


def test_grey_jpeg_with_chroma_channels_is_as_the_one_without(tmp_path: Path) -> None:
    ramp = np.add.outer(np.arange(120), np.arange(160)).astype(np.uint8)
    alone = decode_image(saved(tmp_path / "a.jpeg", ramp, quality=90), 32)
    with_chroma = decode_image(saved(tmp_path / "b.jpeg", Image.fromarray(ramp).convert("RGB"), quality=90), 32)
    assert with_chroma.shape == (32, 32)
    assert np.abs(alone.astype(int) - with_chroma).mean() <= 1


def full_scale(path: Path, image_size: int) -> np.ndarray:
    """The slow reference: every pixel decoded, one bicubic resize."""
    image = Image.open(path).convert("L")
    scale = image_size / max(image.size)
    return np.asarray(image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC))


@pytest.mark.parametrize("image_size", [64, 224, 512])
def test_reduced_scale_decoding_is_close_to_full_scale(tmp_path: Path, image_size: int) -> None:
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (30, 23), dtype=np.uint8)).resize((1203, 1602), Image.Resampling.BICUBIC)
    path = saved(tmp_path / "a.jpeg", coarse, quality=90)
    slow, fast = full_scale(path, image_size), decode_image(path, image_size)
    left = (image_size - slow.shape[1]) // 2
    assert np.abs(fast[:, left : left + slow.shape[1]].astype(int) - slow).mean() < 1
    assert fast[:, :left].max() == 0


@pytest.mark.skipif(not SAMPLE.exists(), reason="the genuine images are not at hand (../shared/data)")
def test_genuine_radiographs_are_grey_and_close_to_full_scale() -> None:
    paths = sorted(SAMPLE.iterdir())[::3]
    for path in paths:
        slow, fast = full_scale(path, 224), decode_image(path, 224)
        assert fast.shape == (224, 224)
        top, left = (224 - slow.shape[0]) // 2, (224 - slow.shape[1]) // 2
        inner = fast[top : top + slow.shape[0], left : left + slow.shape[1]]
        assert np.abs(inner.astype(int) - slow).mean() < 1
    assert len(paths) == 10


def test_bytes_other_than_the_hashed_ones_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", grey(9))
    right = hashlib.sha256(path.read_bytes()).hexdigest()
    np.testing.assert_array_equal(decode_image(path, 8, sha256=right), grey(9))
    with pytest.raises(UnreadableError, match=r"a\.png has changed"):
        decode_image(path, 8, sha256="0" * 64)


def test_the_message_names_file_and_reason_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.jpeg").write_bytes(b"")
    with pytest.raises(UnreadableError) as caught:
        decode_image(tmp_path / "a.jpeg", 8)
    assert str(caught.value) == "Every image must be readable, but a.jpeg is empty (0 bytes): replace it or leave it out."
    assert caught.value.reason == "is empty (0 bytes)"


def test_a_phone_photo_with_a_preview_behind_it_is_one_picture(tmp_path: Path) -> None:
    first, preview = Image.fromarray(grey(200)), Image.fromarray(grey(3))
    buffer = io.BytesIO()
    first.save(buffer, "MPO", save_all=True, append_images=[preview])
    (tmp_path / "a.jpg").write_bytes(buffer.getvalue())
    np.testing.assert_array_equal(decode_image(tmp_path / "a.jpg", 8), grey(200))
