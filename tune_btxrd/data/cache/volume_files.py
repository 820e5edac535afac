"""Volume files: NIfTI, Analyze and MGH files and folders of DICOM slices as voxels with axes R, A, S, read by nibabel."""

import gzip
import importlib.util
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tune_btxrd.data.cache.decode import UnreadableError
from tune_btxrd.errors import DataError, first_line

ENDINGS = (".nii", ".nii.gz", ".hdr", ".img", ".hdr.gz", ".img.gz", ".mgh", ".mgz")  # lower case
EXTRA = ("nibabel", "pydicom", "monai")  # what `pip install 'tune-btxrd[volumes]'` brings
MOST_VOXELS = 2**28  # of one file; 512 x 512 x 1024
GZIP = b"\x1f\x8b"
NO_ORIENTATION = "no orientation in the header, taken as nibabel takes it (axes L A S)"
TWO_ORIENTATIONS = "sform and qform disagree, sform is taken as nibabel takes it"


@dataclass(frozen=True, kw_only=True)
class Volume:
    """One channel of one patient. Attributes:
    voxels: (X, Y, Z) float64 with axes R, A, S; not finite where the file says so.
    affine: (4, 4) float64, voxel indices -> mm.
    notes: what to say of how it was read.
    """

    voxels: np.ndarray
    affine: np.ndarray
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class VolumeHeader:
    """What a file says without its voxels being read. Attributes:
    shape: voxels per axis as stored; empty where it is unreadable.
    spacing: mm per axis as stored.
    axes: where the stored axes point, e.g. "LPS".
    dtype: of the stored voxels, e.g. "int16".
    unreadable: why it cannot be read; empty where it can.
    """

    shape: tuple[int, ...] = ()
    spacing: tuple[float, ...] = ()
    axes: str = ""
    dtype: str = ""
    unreadable: str = ""


@dataclass(frozen=True, kw_only=True)
class _Opened:
    """A file whose header is read; its voxels come when they are asked for."""

    image: Any
    shape: tuple[int, ...]
    notes: tuple[str, ...] = field(default=())


def is_volume_name(name: str) -> bool:
    """Whether a path ends as a volume file's does."""
    return name.lower().endswith(ENDINGS)


def require_extra() -> None:
    """Raises DataError where the packages that read volumes and train on them are not installed."""
    if missing := [name for name in EXTRA if importlib.util.find_spec(name) is None]:
        raise DataError(
            f"Volumes need the packages {', '.join(EXTRA)}, but {', '.join(missing)} cannot be imported: "
            "pip install 'tune-btxrd[volumes]'"
        )


def read_volume(path: Path) -> Volume:
    """The voxels of a file or of a folder of DICOM slices, scaled as the header says, axes turned to R, A, S.

    Raises:
        UnreadableError: no single volume of numbers, damaged, misnamed, too large.
    """
    if path.is_dir():
        from tune_btxrd.data.cache.dicom_folder import read_slices

        voxels, affine = read_slices(path)
        return _upright(path.name, voxels, affine)
    opened = _open(path)
    try:
        voxels = np.asanyarray(opened.image.dataobj).astype(np.float64).reshape(opened.shape)
        affine = np.asarray(opened.image.affine, dtype=np.float64)
    except FileNotFoundError as error:
        raise UnreadableError(path.name, f"lacks its other half ({Path(str(error.filename)).name})") from error
    except Exception as error:  # parsers raise all kinds on damaged bytes; each is reported with its reason
        raise UnreadableError(path.name, f"is damaged ({_reason(error, path)})") from error
    return _upright(path.name, voxels, affine, opened.notes)


def read_volume_header(path: Path) -> VolumeHeader:
    """What the header says, or why it is unreadable."""
    import nibabel

    try:
        if path.is_dir():
            from tune_btxrd.data.cache.dicom_folder import read_geometry

            shape, affine, dtype = read_geometry(path)
        else:
            opened = _open(path)
            shape, affine, dtype = opened.shape, np.asarray(opened.image.affine), str(opened.image.get_data_dtype().name)
    except UnreadableError as error:
        return VolumeHeader(unreadable=error.reason)
    spacing = tuple(round(float(side), 4) for side in nibabel.affines.voxel_sizes(affine))
    axes = "".join(axis or "?" for axis in nibabel.aff2axcodes(affine))
    return VolumeHeader(shape=shape, spacing=spacing, axes=axes, dtype=dtype)


def stored_grid(path: Path) -> tuple[tuple[int, ...], np.ndarray]:
    """Shape and (4, 4) affine of a file or of a folder of DICOM slices as they are stored. Raises: UnreadableError."""
    if path.is_dir():
        from tune_btxrd.data.cache.dicom_folder import read_geometry

        shape, affine, _ = read_geometry(path)
        return shape, affine
    opened = _open(path)
    return opened.shape, np.asarray(opened.image.affine, dtype=np.float64)


def same_grid(one: Volume, other: Volume) -> bool:
    """Whether the voxels of two volumes lie at the same places: no corner is off by more than a twentieth of a voxel."""
    if one.voxels.shape != other.voxels.shape:
        return False
    ends = [(0, side - 1) for side in one.voxels.shape]
    corners = np.array([(x, y, z, 1) for x in ends[0] for y in ends[1] for z in ends[2]], dtype=np.float64)
    off = np.linalg.norm((corners @ (one.affine - other.affine).T)[:, :3], axis=1)
    return bool(off.max() <= 0.05 * np.linalg.norm(one.affine[:3, :3], axis=0).min())


def _open(path: Path) -> _Opened:
    import nibabel

    nibabel.imageglobals.logger.disabled = True  # it prints what it repairs in a header
    _check_bytes(path)
    try:
        image: Any = nibabel.load(path)
        shape = tuple(int(side) for side in image.shape)
        dtype = image.get_data_dtype()
    except FileNotFoundError as error:
        raise UnreadableError(path.name, f"lacks its other half ({Path(str(error.filename)).name})") from error
    except nibabel.filebasedimages.ImageFileError as error:
        raise UnreadableError(path.name, f"is no volume that nibabel knows (begins with {_head(path)[:4]!r})") from error
    except Exception as error:  # as above
        raise UnreadableError(path.name, f"has a damaged header ({_reason(error, path)})") from error
    _check_kind(path.name, dtype)
    return _Opened(image=image, shape=_one_volume(path.name, shape), notes=_orientation_notes(image))


def _check_bytes(path: Path) -> None:
    """Raises UnreadableError for what is no regular file, is empty, or is gzip under a wrong name."""
    if not path.is_file():
        raise UnreadableError(path.name, "is no regular file")
    head = _head(path)
    if not head:
        raise UnreadableError(path.name, "is empty (0 bytes)")
    named = path.name.lower().endswith((".gz", ".mgz"))
    if named and not head.startswith(GZIP):
        raise UnreadableError(path.name, f"is not gzip data as its name says (begins with {head[:8]!r})")
    if head.startswith(GZIP) and not named:
        raise UnreadableError(path.name, "is gzip data under a name without .gz: rename it")


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(16)
    except OSError as error:
        raise UnreadableError(path.name, f"cannot be read ({error.strerror or error})") from error


def _check_kind(name: str, dtype: Any) -> None:
    if dtype.fields is not None:
        raise UnreadableError(name, "holds colours, not one number per voxel")
    if dtype.kind == "c":
        raise UnreadableError(name, "holds complex numbers: take their magnitude first")


def _one_volume(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """(X, Y, Z); further axes of length 1 are dropped."""
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    shown = "x".join(map(str, shape))
    if len(shape) > 3:
        raise UnreadableError(name, f"holds {np.prod(shape[3:])} volumes ({shown}) instead of one: split it, and name one")
    if len(shape) < 3 or min(shape) < 2:
        raise UnreadableError(name, f"is flat ({shown}), no volume")
    if np.prod(shape, dtype=np.float64) > MOST_VOXELS:
        raise UnreadableError(name, f"claims too many voxels ({shown}, limit {MOST_VOXELS:,})")
    return shape


def _orientation_notes(image: Any) -> tuple[str, ...]:
    header = image.header
    if "sform_code" not in getattr(header, "keys", list)():
        return () if hasattr(header, "delta") or "mgh" in type(image).__name__.lower() else (NO_ORIENTATION,)
    codes = int(header["qform_code"]), int(header["sform_code"])
    if codes == (0, 0):
        return (NO_ORIENTATION,)
    if min(codes) > 0 and not np.allclose(image.get_qform(), image.get_sform(), atol=0.1):
        return (TWO_ORIENTATIONS,)
    return ()


def _upright(name: str, voxels: np.ndarray, affine: np.ndarray, notes: tuple[str, ...] = ()) -> Volume:
    """Axes turned and flipped to the nearest R, A, S; no voxel is computed anew."""
    import nibabel

    turns = nibabel.io_orientation(affine) if np.isfinite(affine).all() else np.full((3, 2), np.nan)
    if np.isnan(turns).any():
        raise UnreadableError(name, "has no usable orientation (its affine is singular)")
    turned = nibabel.apply_orientation(voxels, turns)
    return Volume(voxels=turned, affine=affine @ nibabel.orientations.inv_ornt_aff(turns, voxels.shape), notes=notes)


def _reason(error: Exception, path: Path) -> str:
    if isinstance(error, EOFError | gzip.BadGzipFile):
        return "the gzip stream ends too early" if isinstance(error, EOFError) else "the gzip stream is broken"
    return f"{type(error).__name__}: {first_line(str(error).replace(str(path), path.name), 100)}"
