"""DICOM images: pixels against pydicom's own, each way of storing them, views, and one line for what is no picture."""

import struct
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.dicoms import MARKS, dicom_dataset, drawn, write_dicom
from tests.support.paths import ROOT
from tune_btxrd.data.audit.headers import read_header
from tune_btxrd.data.cache import dicom_files, dicom_packing, dicom_picture
from tune_btxrd.data.cache.decode import UnreadableError, decode, pixel_version, read_size
from tune_btxrd.data.cache.dicom_picture import dicom_picture as picture_of

pydicom = pytest.importorskip("pydicom")
from tests.support.dicom_table import against_pydicom  # noqa: E402

SHARED = ROOT.parent / "shared" / "data" / "dicom"
REFUSED = {  # file -> what is said of it
    "derived_empty.dcm": "is empty (0 bytes)",
    "derived_no_photometric.dcm": "lacks what the standard asks of every picture (PhotometricInterpretation)",
    "derived_no_pixels.dcm": "holds no pixels",
    "derived_no_rows.dcm": "lacks what the standard asks of every picture (Rows)",
    "derived_short_pixels.dcm": "is cut off (193,600 of 387,200 bytes of pixels)",
    "derived_truncated.dcm": "is cut off (128,458 of 387,200 bytes of pixels)",
    "derived_two_frames.dcm": "holds 2 pictures instead of one",
    "xa_96frames_jpegbaseline.dcm": "holds 96 pictures instead of one",
}
NOTED = {
    "cr_teeth_mono1_modalitylut_jpll.dcm": dicom_picture.NO_WINDOW,
    "derived_anisotropic_spacing.dcm": dicom_picture.OBLONG,
    "derived_pixel_padding.dcm": dicom_picture.PADDED,
    "derived_rgb_radiograph.dcm": dicom_picture.COLOURED,
    "derived_window_width_zero.dcm": dicom_picture.BAD_WINDOW,
    "rtimage_rescale_tiny_slope.dcm": dicom_picture.NARROW_WINDOW,
}
NO_DICOM = ("derived_png_inside.dcm", "derived_empty.dcm")
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="needs the shared DICOM files")


def content(dataset: object) -> bytes:
    stream = BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


@needs_shared
def test_pixels_of_the_shared_files_are_pydicoms_own() -> None:
    found = {item.file: item for item in against_pydicom(SHARED)}
    compared = {name: item.difference for name, item in found.items() if item.difference is not None}
    assert len(compared) == 30 and max(compared.values()) <= 0.5 + 1e-9, compared
    refused = {name: item.seen for name, item in found.items() if name in REFUSED}
    assert refused == {name: f"refused: it {reason}" for name, reason in REFUSED.items()}


@needs_shared
@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_picture_is_refused_in_one_line(name: str) -> None:
    with pytest.raises(UnreadableError) as caught:
        decode(SHARED / name, 64)
    assert caught.value.reason == REFUSED[name] == read_header(SHARED / name).unreadable
    assert "\n" not in str(caught.value)


@needs_shared
def test_shared_files_are_read_whatever_they_are_called_and_notes_say_what_was_assumed() -> None:
    for path in sorted(SHARED.iterdir()):
        if path.name in REFUSED or path.suffix == ".csv":
            continue
        found = decode(path, 64)
        assert NOTED.get(path.name, "") in found.note and bool(found.note) == (path.name in NOTED), path.name
        size = read_size(path)
        header = read_header(path)
        assert (header.width, header.height) == size.upright and not header.unreadable
        assert pixel_version(path) == (1 if path.name in NO_DICOM else 3), path.name
    assert read_header(SHARED / "cr_teeth_mono1_modalitylut_jpll.dcm").mode == "MONOCHROME1 10"
    assert read_header(SHARED / "derived_rle_mono1_10bit.dcm").format == "DICOM RLE Lossless"


@needs_shared
def test_files_cut_anywhere_are_never_another_picture() -> None:
    names = ("rg3_leg_mono1_j2k_lossy", "derived_jpegls_mono1_10bit", "mg_overlays_jpll", "rsna_chest_mono2_jpegbaseline")
    for name in (*names, "derived_rle_mono1_10bit", "derived_deflated", "cr_chest_mono1_10bit"):
        data = (SHARED / f"{name}.dcm").read_bytes()
        whole = np.asarray(picture_of(data).image)
        for end in (0.3, 0.6, 0.95, 1 - 40 / len(data), 1 - 9 / len(data)):
            try:
                cut = np.asarray(picture_of(data[: int(end * len(data))]).image)
            except dicom_files.NotAPictureError:
                continue
            assert np.array_equal(cut, whole), (name, end)


def test_a_picture_of_eight_bits_is_the_png_of_its_pixels(tmp_path: Path) -> None:
    for name, shape in (("grey", (90, 61)), ("colour", (50, 70, 3)), ("dark", (30, 30))):
        pixels = drawn(1, shape) // (40 if name == "dark" else 1)
        Image.fromarray(pixels).save(tmp_path / "x.png")
        write_dicom(tmp_path / "x.dcm", pixels)
        assert np.array_equal(decode(tmp_path / "x.dcm", 32).pixels, decode(tmp_path / "x.png", 32).pixels), name


def test_an_encapsulated_jpeg_is_the_jpeg(tmp_path: Path) -> None:
    from pydicom.encaps import encapsulate

    stream = BytesIO()
    Image.fromarray(drawn(2, (60, 50))).save(stream, "JPEG", quality=80)
    (tmp_path / "x.jpg").write_bytes(stream.getvalue())
    made = dicom_dataset(drawn(2, (60, 50)))
    made.file_meta.TransferSyntaxUID = pydicom.uid.JPEGBaseline8Bit
    made.PixelData = encapsulate([stream.getvalue()])
    made["PixelData"].is_undefined_length = True
    (tmp_path / "x.dcm").write_bytes(content(made))
    assert np.array_equal(decode(tmp_path / "x.dcm", 48).pixels, decode(tmp_path / "x.jpg", 48).pixels)


def test_a_window_by_hand() -> None:
    pixels = np.array([[0, 99, 100, 149, 150, 199, 200, 4000]], dtype=np.uint16)
    for given in ({"WindowCenter": 150, "WindowWidth": 101}, {"WindowCenter": [150, 1], "WindowWidth": [101, 2]}):
        found = picture_of(content(dicom_dataset(pixels, BitsStored=12, HighBit=11, **given)))
        # PS3.3 C.11.2.1.2.1: ((x - 149.5) / 100 + 0.5) * 255
        assert np.asarray(found.image).tolist() == [[0, 0, 1, 126, 129, 254, 255, 255]] and not found.notes
    inverted = dicom_dataset(pixels, PhotometricInterpretation="MONOCHROME1", WindowCenter=150, WindowWidth=101)
    assert np.asarray(picture_of(content(inverted)).image).tolist() == [[255, 255, 254, 129, 126, 1, 0, 0]]
    asked = picture_of(content(dicom_dataset(pixels, WindowCenter=9, WindowWidth=2)), window=(150, 101))
    assert np.asarray(asked.image).tolist() == [[0, 0, 1, 126, 129, 254, 255, 255]]


def test_a_window_counts_in_the_units_of_the_modality() -> None:
    pixels = np.arange(-100, 100, dtype=np.int16).reshape(10, 20)
    rescaled = {"RescaleSlope": 2, "RescaleIntercept": -50}
    made = dicom_dataset(pixels, **rescaled, WindowCenter=0.5, WindowWidth=256)
    wanted = np.rint(((pixels * 2.0 - 50 - 0) / 255 + 0.5) * 255).clip(0, 255)
    assert np.abs(np.asarray(picture_of(content(made)).image) - wanted).max() <= 1
    without = picture_of(content(dicom_dataset(pixels, **rescaled)))
    assert np.asarray(without.image).min() == 0 and np.asarray(without.image).max() == 255
    assert without.notes == (dicom_picture.NO_WINDOW,)


def test_padding_is_black_only_where_it_reaches_the_border() -> None:
    pixels = np.full((9, 9), 200, dtype=np.uint8)
    pixels[:, :2] = pixels[5, 5] = 0
    made = dicom_dataset(pixels, PhotometricInterpretation="MONOCHROME1")
    made.add_new(0x00280120, "US", 0)
    found = picture_of(content(made))
    assert found.notes == (dicom_picture.PADDED,)
    alpha = np.asarray(found.image.getchannel("A"))
    assert not alpha[:, :2].any() and alpha[5, 5] == 255 and alpha[4, 4] == 255
    assert np.asarray(found.image)[5, 5, 0] == 255 and np.asarray(found.image)[4, 4, 0] == 55


def test_colours_of_a_palette() -> None:
    made = dicom_dataset(np.array([[0, 1], [2, 1]], dtype=np.uint8), PhotometricInterpretation="PALETTE COLOR")
    for colour, levels in {"Red": (0, 255, 10), "Green": (0, 0, 20), "Blue": (255, 0, 30)}.items():
        setattr(made, f"{colour}PaletteColorLookupTableDescriptor", [3, 0, 16])
        setattr(made, f"{colour}PaletteColorLookupTableData", struct.pack("<3H", *(level * 257 for level in levels)))
    found = picture_of(content(made))
    assert found.image.mode == "RGB" and found.notes == (dicom_picture.COLOURED,)
    assert np.asarray(found.image).reshape(-1, 3).tolist()[:2] == [[0, 0, 255], [255, 0, 0]]


def deflated_bomb() -> bytes:
    made = dicom_dataset(drawn(0))
    made.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
    data = content(made)
    (length,) = struct.unpack_from("<I", data, 140)
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return data[: 144 + length] + b"".join(packer.compress(bytes(2**20)) for _ in range(40)) + packer.flush()


BAD = {
    "one pixel": ({"pixels": np.zeros((1, 1), np.uint8)}, "has 1 x 1 pixels, which is no picture"),
    "larger than memory": ({"Rows": 60_000, "Columns": 60_000}, "claims too many pixels (60000 x 60000, limit 80,000,000)"),
    "no rows at all": ({"Rows": 0}, "has 30 x 0 pixels, which is no picture"),
    "unknown kind": ({"PhotometricInterpretation": MARKS[0]}, "has a PhotometricInterpretation that is not read"),
    "without pixels": ({"PixelData": None}, "holds no pixels"),
    "document": ({"PixelData": None, "EncapsulatedDocument": b"%PDF-1.7 "}, "holds a document instead of a picture"),
    "lut of nothing": ({"VOILUTSequence": [pydicom.Dataset()]}, "is damaged (its view cannot be made, AttributeError)"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_files_are_told_in_one_line_without_their_patient(
    kind: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    elements, reason = BAD[kind]
    elements = dict(elements)
    write_dicom(tmp_path / "x.dcm", elements.pop("pixels", drawn(0)), **elements)
    with pytest.raises(UnreadableError) as caught:
        decode(tmp_path / "x.dcm", 32)
    assert caught.value.reason == reason
    assert not any(mark in f"{caught.value}{capfd.readouterr()}" for mark in MARKS)


def test_a_deflated_bomb_is_refused_before_it_is_inflated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dicom_files, "MAX_FILE_BYTES", 16 * 2**20)
    with pytest.raises(dicom_files.NotAPictureError, match="more than 16 MiB when inflated"):
        picture_of(deflated_bomb())


@needs_shared
@pytest.mark.parametrize(
    ("name", "marker", "place", "format_"),
    [
        ("rg3_leg_mono1_j2k_lossless.dcm", b"\xff\x4f\xff\x51", 8, ">II"),
        ("cr_teeth_mono1_modalitylut_jpll.dcm", b"\xff\xc3", 5, ">HH"),
        ("derived_jpegls_mono1_10bit.dcm", b"\xff\xf7", 5, ">HH"),
        ("rsna_chest_mono2_jpegbaseline.dcm", b"\xff\xc0", 5, ">HH"),
    ],
)
def test_packed_pixels_that_claim_another_size_are_refused_before_they_are_unpacked(
    name: str, marker: bytes, place: int, format_: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Decoders would allocate gigabytes; some end the process."""
    data = bytearray((SHARED / name).read_bytes())
    struct.pack_into(format_, data, data.index(marker) + place, 60_000, 60_000)
    monkeypatch.setattr(dicom_packing, "CODECS", dict.fromkeys(dicom_packing.CODECS, "none"))
    with pytest.raises(dicom_files.NotAPictureError, match=r"is damaged .its pixels cannot be decoded, ValueError"):
        picture_of(bytes(data))


@pytest.mark.parametrize("bits", [12, 16])
def test_signed_pixels_that_are_packed_unsigned(bits: int) -> None:
    import imagecodecs

    pixels = np.arange(-40, 40, dtype=np.int16).reshape(8, 10)
    packed = imagecodecs.jpegls_encode(pixels.view(np.uint16) & (2**bits - 1))
    made = dicom_dataset(pixels, BitsStored=bits, HighBit=bits - 1, WindowCenter=0.5, WindowWidth=256)
    made.file_meta.TransferSyntaxUID = pydicom.uid.JPEGLSLossless
    made.PixelData = pydicom.encaps.encapsulate([packed])
    made["PixelData"].is_undefined_length = True
    assert np.array_equal(dicom_files.stored_pixels(dicom_files.read_dicom(content(made))), pixels)


def test_a_packing_that_is_not_read_is_named() -> None:
    made = dicom_dataset(drawn(0))
    made.file_meta.TransferSyntaxUID = pydicom.uid.HTJ2K
    made.PixelData = pydicom.encaps.encapsulate([b"\xff\x4f\xff\x51" + bytes(90)])
    made["PixelData"].is_undefined_length = True
    with pytest.raises(dicom_files.NotAPictureError, match=r"not read .High-Throughput JPEG 2000"):
        picture_of(content(made))


def test_without_pydicom_one_line_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tune_btxrd.errors import DataError

    write_dicom(tmp_path / "x.dcm", drawn(0))
    monkeypatch.setattr(dicom_files.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"pip install 'tune-btxrd\[dicom\]'"):
        decode(tmp_path / "x.dcm", 32)
