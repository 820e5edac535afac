"""Bit depth: every depth and kind of PNG and TIFF gives the same picture as 8 bits do, within one level."""

import io
import struct
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image, PngImagePlugin

from tests.support.images import manifest_of
from tune_btxrd.data.audit.headers import image_headers
from tune_btxrd.data.cache.decode import UnreadableError, decode, decode_image, pixel_version

SETTINGS = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
SIDE = 12
PICTURES = arrays(np.uint8, (SIDE, SIDE), elements=st.integers(0, 255))
COLOURS = arrays(np.uint8, (SIDE, SIDE, 3), elements=st.integers(0, 255))
GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6  # colour types of PNG


def full_range(pixels: np.ndarray) -> np.ndarray:
    """The picture with a black and a white pixel, so that no stretch moves it."""
    pixels = pixels.copy()
    pixels.reshape(-1)[:3], pixels.reshape(-1)[-3:] = 0, 255
    return pixels


def in_bits(pixels: np.ndarray, bits: int) -> np.ndarray:
    return np.rint(pixels.astype(np.float64) * (2**bits - 1) / 255).astype(np.uint64)


def png(samples: np.ndarray, bits: int, colour: int, *extra: bytes) -> bytes:
    """A PNG written by hand: (H, W, samples a pixel)."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    rows = []
    for row in samples.reshape(len(samples), -1):
        packed = "".join(f"{int(value):0{bits}b}" for value in row)
        packed += "0" * (-len(packed) % 8)
        rows.append(b"\0" + bytes(int(packed[place : place + 8], 2) for place in range(0, len(packed), 8)))
    header = struct.pack(">IIBBBBB", samples.shape[1], samples.shape[0], bits, colour, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(b"".join(rows)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(extra) + body + chunk(b"IEND", b"")


def decoded(folder: Path, data: bytes, suffix: str) -> np.ndarray:
    path = folder / f"a.{suffix}"
    path.write_bytes(data)
    return decode_image(path, SIDE).astype(int)


def expected(folder: Path, pixels: np.ndarray) -> np.ndarray:
    Image.fromarray(pixels).save(folder / "expected.png")
    return decode_image(folder / "expected.png", SIDE).astype(int)


def same(found: np.ndarray, right: np.ndarray) -> bool:
    return found.shape == right.shape and np.abs(found - right).max() <= 1


@SETTINGS
@given(pixels=PICTURES, bits=st.sampled_from([1, 2, 4, 8, 16]), with_alpha=st.booleans())
def test_grey_png(tmp_path: Path, pixels: np.ndarray, bits: int, with_alpha: bool) -> None:
    pixels = full_range(pixels)
    levels = in_bits(pixels, min(bits, 8))
    right = expected(tmp_path, np.rint(levels * (255 / (2 ** min(bits, 8) - 1))).astype(np.uint8))
    samples = in_bits(pixels, bits)[..., None]
    if with_alpha and bits >= 8:
        samples = np.concatenate([samples, np.full_like(samples, 2**bits - 1)], axis=2)
    kind = GREY_ALPHA if samples.shape[2] == 2 else GREY
    assert same(decoded(tmp_path, png(samples, bits, kind), "png"), right)


@pytest.mark.parametrize(("few", "many"), [([0], [1]), ([15], [0, 1]), ([0], list(range(12, 15)))])
def test_drawing_of_few_levels_keeps_them_all(tmp_path: Path, few: list[int], many: list[int]) -> None:
    """Few dark pixels on one bright field are no marker: without them nothing would be left to see."""
    pixels = np.resize(np.array(many, dtype=np.uint8), (SIDE, SIDE, 3))
    pixels[0, 0] = few[0]
    assert same(decoded(tmp_path, png(in_bits(pixels, 16), 16, RGB), "png"), expected(tmp_path, stretched(pixels)))


@SETTINGS
@given(pixels=COLOURS, with_alpha=st.booleans())
def test_colour_png_of_16_bits(tmp_path: Path, pixels: np.ndarray, with_alpha: bool) -> None:
    samples = in_bits(pixels, 16)
    if with_alpha:
        samples = np.concatenate([samples, np.full((SIDE, SIDE, 1), 65535, dtype=np.uint64)], axis=2)
    assert same(decoded(tmp_path, png(samples, 16, RGBA if with_alpha else RGB), "png"), expected(tmp_path, full(pixels)))


def full(pixels: np.ndarray) -> np.ndarray:
    """The picture as it is: samples of 16 bits that repeat a byte are not stretched, unless all but black."""
    assume_bright = pixels.max() >= 16
    return pixels if assume_bright else stretched(pixels)


def stretched(pixels: np.ndarray) -> np.ndarray:
    low, high = float(pixels.min()), float(pixels.max())
    return np.rint((pixels - low) * 255 / max(high - low, 1e-12)).astype(np.uint8)


def tiff(pixels: np.ndarray, **options: object) -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, pixels, **options)
    return stream.getvalue()


FLOATS = (np.float16, np.float32, np.float64)
DEPTHS = [(np.uint8, 255), (np.uint16, 65_535), (np.uint32, 2**32 - 1), *((kind, 1.0) for kind in FLOATS)]


@SETTINGS
@given(
    pixels=PICTURES,
    depth=st.sampled_from(DEPTHS),
    white_is_zero=st.booleans(),
    order=st.sampled_from(["<", ">"]),
    packing=st.sampled_from([None, "zlib", "lzw", "packbits"]),
)
def test_grey_tiff(
    tmp_path: Path, pixels: np.ndarray, depth: tuple[type, float], white_is_zero: bool, order: str, packing: str | None
) -> None:
    pixels = full_range(pixels)
    kind, white = depth
    shares = (255 - pixels if white_is_zero else pixels).astype(np.float64) / 255
    samples = (np.rint(shares * white) if white > 1 else shares).astype(kind)
    photometric = "miniswhite" if white_is_zero else "minisblack"
    data = tiff(samples, photometric=photometric, byteorder=order, compression=packing)
    assert same(decoded(tmp_path, data, "tiff"), expected(tmp_path, pixels))


@SETTINGS
@given(
    pixels=COLOURS,
    depth=st.sampled_from(DEPTHS),
    planar=st.sampled_from(["contig", "separate"]),
    alpha=st.sampled_from([None, "unassalpha", "assocalpha"]),
)
def test_colour_tiff(tmp_path: Path, pixels: np.ndarray, depth: tuple[type, float], planar: str, alpha: str | None) -> None:
    pixels = full_range(pixels)
    kind, white = depth
    samples = (np.rint(pixels / 255 * white) if white > 1 else pixels / 255).astype(kind)
    if alpha:
        samples = np.concatenate([samples, np.full((SIDE, SIDE, 1), white, dtype=kind)], axis=2)
    samples = np.moveaxis(samples, -1, 0) if planar == "separate" else samples
    data = tiff(samples, photometric="rgb", planarconfig=planar, extrasamples=[alpha] if alpha else None)
    assert same(decoded(tmp_path, data, "tiff"), expected(tmp_path, pixels))


@pytest.mark.parametrize("bits", [1, 2, 4, 6, 10, 12, 14])
@pytest.mark.parametrize("white_is_zero", [False, True])
def test_grey_tiff_of_odd_depths(tmp_path: Path, bits: int, white_is_zero: bool) -> None:
    levels = np.arange(SIDE * SIDE).reshape(SIDE, SIDE) % 2**bits * (2**bits - 1) // (min(2**bits, SIDE * SIDE) - 1)
    right = np.rint(levels * (255 / (2**bits - 1))).astype(np.uint8)
    samples = (2**bits - 1 - levels if white_is_zero else levels).astype(np.uint8 if bits <= 8 else np.uint16)
    options = {"photometric": "miniswhite" if white_is_zero else "minisblack"}
    data = tiff(samples.astype(bool), **options) if bits == 1 else tiff(samples, bitspersample=bits, **options)
    assert same(decoded(tmp_path, data, "tiff"), expected(tmp_path, right))


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_other_photometric_kinds_of_tiff(tmp_path: Path, kind: type) -> None:
    rng = np.random.default_rng(0)
    white = np.iinfo(kind).max
    pixels = full_range(rng.integers(0, 256, (SIDE, SIDE, 3)).astype(np.uint8))
    cmyk = np.concatenate([255 - pixels, np.zeros((SIDE, SIDE, 1), dtype=np.uint8)], axis=2) / 255 * white
    data = tiff(np.rint(cmyk).astype(kind), photometric="separated")
    assert same(decoded(tmp_path, data, "tiff"), expected(tmp_path, pixels))
    lab = np.zeros((SIDE, SIDE, 3), dtype=kind)  # grey: a and b are 0
    lab[..., 0] = np.linspace(0, white, SIDE).round().astype(kind)
    found = decoded(tmp_path, tiff(lab, photometric="cielab"), "tiff")
    lightness = np.linspace(0, 100, SIDE)
    linear = np.where(lightness > 8, ((lightness + 16) / 116) ** 3, lightness / 903.3)
    right = 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    assert found.ndim == 2 and np.abs(found[0] - right).max() <= 1.5


def test_palette_tiff_and_signed_samples(tmp_path: Path) -> None:
    palette = np.stack([np.linspace(0, 65_535, 256)] * 3).astype(np.uint16)
    pixels = full_range(np.arange(SIDE * SIDE, dtype=np.uint8).reshape(SIDE, SIDE))
    data = tiff(pixels, photometric="palette", colormap=palette)
    assert same(decoded(tmp_path, data, "tiff"), expected(tmp_path, pixels))
    for kind in (np.int8, np.int16, np.int32):
        signed = (pixels.astype(np.int64) - 128).astype(kind)
        assert same(decoded(tmp_path, tiff(signed), "tiff"), expected(tmp_path, pixels))


def test_a_dark_picture_of_8_bits_in_16_is_not_stretched(tmp_path: Path) -> None:
    pixels = np.arange(SIDE * SIDE, dtype=np.uint8).reshape(SIDE, SIDE) // 2 + 20
    assert same(decoded(tmp_path, png(in_bits(pixels, 16)[..., None], 16, GREY), "png"), expected(tmp_path, pixels))
    assert same(decoded(tmp_path, tiff(pixels.astype(np.float32) / 255), "tiff"), expected(tmp_path, pixels))


WIDER = [(kind, 255) for kind in (*FLOATS, np.uint16, np.uint32, np.int16, np.int32)]
WIDER += [(np.float32, 65_535), (np.float64, 65_535), (np.float64, 2**32 - 1)]


@SETTINGS
@given(pixels=PICTURES, wider=st.sampled_from(WIDER), white_is_zero=st.booleans())
def test_whole_numbers_are_levels_whatever_type_holds_them(
    tmp_path: Path, pixels: np.ndarray, wider: tuple[type, int], white_is_zero: bool
) -> None:
    kind, white = wider
    pixels = full_range(pixels) if white_is_zero else full(pixels)
    shares = (255 - pixels if white_is_zero else pixels).astype(np.float64) / 255
    data = tiff(np.rint(shares * white).astype(kind), photometric="miniswhite" if white_is_zero else "minisblack")
    assert same(decoded(tmp_path, data, "tiff"), expected(tmp_path, pixels))


@SETTINGS
@given(pixels=COLOURS, white=st.sampled_from([255, 256, 1023, 4095, 65_535]), kind=st.sampled_from([2, 3, 5, 6]))
def test_netpbm_of_any_maximum(tmp_path: Path, pixels: np.ndarray, white: int, kind: int) -> None:
    pixels = full(pixels if kind in (3, 6) else pixels[..., 0])
    samples = np.rint(pixels.astype(np.float64) * white / 255).astype(">u2" if white > 255 else np.uint8)
    plain = " # a remark\n".join(map(str, samples.reshape(-1))).encode()
    header = f"P{kind} # a\n#b\n{SIDE}\t{SIDE}\n{white}\n".encode()
    data = header + (plain if kind in (2, 3) else samples.tobytes())
    assert same(decoded(tmp_path, data, "ppm"), expected(tmp_path, pixels))
    assert pixel_version(tmp_path / "a.ppm") == (1 if white <= 255 else 2)


@SETTINGS
@given(
    pixels=COLOURS,
    bits=st.sampled_from([8, 10, 12, 16]),
    channels=st.sampled_from([1, 3, 4]),
    codec=st.sampled_from(["jp2", "j2k"]),
)
def test_jpeg_2000(tmp_path: Path, pixels: np.ndarray, bits: int, channels: int, codec: str) -> None:
    pixels = full(pixels[..., 0] if channels == 1 else pixels)
    samples = in_bits(pixels, bits).astype(np.uint8 if bits == 8 else np.uint16)
    if channels == 4:
        samples = np.concatenate([samples, np.full((SIDE, SIDE, 1), 2**bits - 1, dtype=samples.dtype)], axis=2)
    data = imagecodecs.jpeg2k_encode(samples, level=0, bitspersample=bits, reversible=True, codecformat=codec)
    assert same(decoded(tmp_path, data, codec), expected(tmp_path, pixels))
    assert pixel_version(tmp_path / f"a.{codec}") == (1 if bits == 8 else 2)


def test_12_bits_in_netpbm_and_jpeg_2000_of_16_are_stretched(tmp_path: Path) -> None:
    twelve = np.linspace(100, 4000, SIDE * SIDE).astype(np.uint16).reshape(SIDE, SIDE, 1).repeat(3, axis=2)
    right = stretched(twelve[..., 0].astype(np.float64)).astype(int)
    ppm = f"P6 {SIDE} {SIDE} 65535\n".encode() + twelve.astype(">u2").tobytes()
    assert same(decoded(tmp_path, ppm, "ppm"), right)
    assert same(decoded(tmp_path, imagecodecs.jpeg2k_encode(twelve, level=0, reversible=True), "jp2"), right)


@pytest.mark.parametrize("body", [b"P5 4 4 1000\n" + b"\x03" * 30, b"P5 4 4 1000\n" + b"\x0f" * 32, b"P2 2 2 300\n1 2 3"])
def test_damaged_netpbm(tmp_path: Path, body: bytes) -> None:
    with pytest.raises(UnreadableError, match="is damaged"):
        decode_image(write(tmp_path / "a.pgm", body), SIDE)


@pytest.mark.parametrize("colour", [GREY, RGB, GREY_ALPHA, RGBA])
def test_12_bits_in_16_are_stretched_whatever_the_kind(tmp_path: Path, colour: int) -> None:
    twelve = np.linspace(100, 4000, SIDE * SIDE).astype(np.uint16).reshape(SIDE, SIDE, 1)
    samples = np.repeat(twelve, 3, axis=2) if colour in (RGB, RGBA) else twelve
    if colour in (GREY_ALPHA, RGBA):
        samples = np.concatenate([samples, np.full((SIDE, SIDE, 1), 65_535, dtype=np.uint16)], axis=2)
    found = decoded(tmp_path, png(samples, 16, colour), "png")
    assert same(found, stretched(twelve[..., 0].astype(np.float64)).astype(int))


@pytest.mark.parametrize("marker", [65_535, 0])
def test_a_marker_far_from_the_picture_does_not_darken_it_and_is_noted(tmp_path: Path, marker: int) -> None:
    film = np.linspace(1000, 5000, 100 * 100).astype(np.uint16).reshape(100, 100)
    film = 60_000 + film if marker == 0 else film
    burned = film.copy()
    burned[:10, :20] = marker  # 2 % of the pixels
    alone, found = (decode(write(tmp_path / name, tiff(p)), 100) for name, p in (("a.tif", film), ("b.tif", burned)))
    rest = np.s_[15:]
    assert np.abs(alone.pixels[rest].astype(int) - found.pixels[rest]).max() <= 6
    assert found.pixels[3, 3] == (255 if marker else 0)
    assert (
        alone.note == ""
        and found.note == "its brightness was stretched without 2 % of its pixels that lie far from all others"
    )


def test_two_tones_are_no_marker(tmp_path: Path) -> None:
    tones = np.full((40, 40), 1000, dtype=np.uint16)
    tones[:20] = 60_001
    found = decode(write(tmp_path / "a.tif", tiff(tones)), 40)
    assert found.note == "" and set(np.unique(found.pixels)) == {0, 255}


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def test_large_metadata_are_no_damage(tmp_path: Path) -> None:
    pixels = full_range(np.arange(SIDE * SIDE, dtype=np.uint8).reshape(SIDE, SIDE))
    for kind in ("zTXt", "iTXt", "iCCP"):
        info = PngImagePlugin.PngInfo()
        if kind == "iTXt":
            info.add_itxt("Comment", "x" * 1_200_000, zip=True)
        elif kind == "zTXt":
            info.add_text("Comment", "x" * 1_200_000, zip=True)
        profile = bytes(1_200_000) if kind == "iCCP" else None
        Image.fromarray(pixels).save(tmp_path / "a.png", pnginfo=info, icc_profile=profile)
        assert same(decode_image(tmp_path / "a.png", SIDE).astype(int), expected(tmp_path, pixels)), kind


def test_what_is_not_understood_or_too_large_is_said(tmp_path: Path) -> None:
    odd = tiff(np.zeros((4, 4, 3), dtype=np.uint16), photometric="rgb")
    tag = struct.pack("<HHI", 262, 3, 1)
    assert odd.count(tag) == 1
    place = odd.index(tag) + len(tag)
    with pytest.raises(UnreadableError, match="is not understood: a TIFF of photometric kind 32845"):
        decode_image(write(tmp_path / "a.tif", odd[:place] + struct.pack("<H", 32_845) + odd[place + 2 :]), 8)
    with pytest.raises(UnreadableError, match="is not understood: a TIFF of complex numbers"):
        decode_image(write(tmp_path / "c.tif", tiff(np.ones((4, 4), dtype=np.complex64))), 8)
    two = tiff(np.zeros((2, 4, 4), dtype=np.float64), photometric="minisblack")
    with pytest.raises(UnreadableError, match="holds 2 pictures instead of one"):
        decode_image(write(tmp_path / "b.tif", two), 8)


@pytest.mark.parametrize("planar", [False, True])
def test_deep_tiffs_are_turned_upright(tmp_path: Path, planar: bool) -> None:
    stored = np.zeros((4, 8, 3), dtype=np.float64)
    stored[:, :2] = 1.0  # bright at the left; orientation 6 turns it clockwise: bright at the top
    data = tiff(np.moveaxis(stored, -1, 0), photometric="rgb", planarconfig="separate") if planar else tiff(stored[..., 0])
    turned = tiff(
        np.moveaxis(stored, -1, 0) if planar else stored[..., 0],
        photometric="rgb" if planar else "minisblack",
        planarconfig="separate" if planar else None,
        extratags=[(274, 3, 1, 6, True)],
    )
    flat, upright = (decode_image(write(tmp_path / "a.tif", bytes_), 8) for bytes_ in (data, turned))
    np.testing.assert_array_equal(np.rot90(flat, -1), upright)


def test_the_audit_reads_the_headers_of_what_the_decoder_reads(tmp_path: Path) -> None:
    planar = tiff(np.zeros((3, 5, 7), dtype=np.float64), photometric="rgb", planarconfig="separate")
    (header,) = image_headers(manifest_of([write(tmp_path / "a.tif", planar)])).values()
    assert (header.width, header.height, header.unreadable) == (7, 5, "")
    (header,) = image_headers(manifest_of([write(tmp_path / "b.tif", planar[:40])])).values()
    assert header.unreadable and not header.width


def test_only_pixels_that_changed_have_a_new_version(tmp_path: Path) -> None:
    grey = np.zeros((4, 4), dtype=np.uint8)
    for name in ("a.png", "a.jpeg", "a.tiff", "a.gif", "a.bmp", "a.webp", "a.pgm", "a.jp2"):
        Image.fromarray(grey).save(tmp_path / name)
        assert pixel_version(tmp_path / name) == 1, name
    deep = {"b.png": png(np.zeros((4, 4, 1), dtype=int), 16, GREY), "b.tif": tiff(grey.astype(np.uint16))}
    deep |= {
        "c.tif": tiff(grey.astype(np.float64)),
        "d.tif": tiff(np.zeros((4, 4, 3), dtype=np.uint8), photometric="cielab"),
    }
    assert {name: pixel_version(write(tmp_path / name, data)) for name, data in deep.items()} == dict.fromkeys(deep, 2)
    assert pixel_version(write(tmp_path / "e.tif", b"II*\0")) in (1, 2) and pixel_version(tmp_path / "none") == 1
