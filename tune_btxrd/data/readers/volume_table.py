"""Volume table: `manifest.csv` whose paths are NIfTI files or DICOM folders: a column `path`, or `path:NAME` per channel."""

from collections.abc import Collection
from pathlib import Path

import pandas as pd

from tune_btxrd.data.cache.volume_files import ENDINGS, is_volume_name, require_extra
from tune_btxrd.data.manifest import Manifest
from tune_btxrd.data.readers.channels import ONLY, ChannelRequest, Files
from tune_btxrd.data.readers.label_columns import label_columns, read_labels
from tune_btxrd.data.readers.paths import FileFinder
from tune_btxrd.data.readers.spreadsheet import read_sheet, require_columns, require_values
from tune_btxrd.data.readers.table_folder import MANIFEST_NAME, check_cells, given_groups, named_centers, typed_columns
from tune_btxrd.errors import DataError
from tune_btxrd.tasks.multiclass import LABEL

PATH, PREFIX, MASK = "path", "path:", "mask"


def is_volume_table(root: Path, table_path: Path) -> bool:
    """Whether a table's paths are volumes: a column `path:NAME`, or a column `path` that names a volume file or a folder."""
    table, _ = read_sheet(table_path, needs=("image_id",))
    if any(str(name).startswith(PREFIX) for name in table.columns):
        return True
    if PATH not in table:
        return False
    named = [str(path) for path in table[PATH].dropna()]
    return any(is_volume_name(path) or FileFinder(root).is_folder(path) for path in named[:1] + named[-1:])


def read_volume_table(
    root: Path,
    *,
    dataset: str,
    table_only: bool = False,
    exclude: Collection[str] = (),
    request: ChannelRequest,
) -> Manifest:
    """The dataset in `root`; labels, centers, groups and further columns as for images (`table_folder.py`).

    A blank cell of a channel's column says that the patient lacks it. A column `mask` names the lesion's outline. Without a
    column `group`, the patients of DICOM slices are groups (`dicom_patients.py`).

    Args:
        dataset: the manifest's short name.
        table_only: look for no files; every file is None.
        exclude: ids whose files may be missing.
        request: which channels, in which order.

    Raises:
        DataError: as for images; a path that is no volume; a patient that lacks a channel. ConfigError: no such channel.
    """
    require_extra()
    finder = FileFinder(root)
    path = finder.find(MANIFEST_NAME, "The table")
    assert path is not None
    table, notes = read_sheet(path, needs=("image_id",))
    columns = _path_columns(table, path)
    require_columns(table, ("image_id", *(() if label_columns(table.columns) else (LABEL,))), path)
    image_ids = tuple(require_values(table, "image_id", path, "name the patient or remove the row"))
    labels = read_labels(table, path)
    check_cells(table)
    channels = request.choose(tuple(columns), root)
    volumes: tuple[Files, ...] = ((None,) * len(channels),) * len(table)
    if not table_only:
        found = [_files(finder, table, columns[name], path, image_ids=image_ids, exclude=exclude) for name in channels]
        volumes = tuple(zip(*found, strict=True))
        lacking = request.check(dict(zip(image_ids, volumes, strict=True)), channels, root, exclude)
        notes = (*notes, *lacking)
    has_masks = MASK in table and not table_only
    masks = _files(finder, table, MASK, path, image_ids=image_ids, exclude=exclude) if has_masks else ()
    return Manifest(
        dataset=dataset,
        root=root.resolve(),
        image_ids=image_ids,
        files=tuple(next((file for file in files if file is not None), None) for files in volumes),
        targets=labels.targets,
        class_names=labels.class_names,
        positive_class=labels.positive_class,
        centers=named_centers(table, path),
        groups=given_groups(table),
        table=typed_columns(table),
        annotations=(None,) * len(table),
        notes=(*notes, *labels.notes, *finder.notes()),
        task=labels.task,
        channels=channels,
        volumes=volumes,
        masks=tuple(masks),
    )


def _path_columns(table: pd.DataFrame, path: Path) -> dict[str, str]:
    """Channel -> its column, in the order of the columns. Raises: DataError for both kinds, a channel without a name."""
    columns = {str(name).removeprefix(PREFIX): str(name) for name in table.columns if str(name).startswith(PREFIX)}
    if columns and PATH in table:
        raise DataError(
            f"{path} must have one column {PATH!r}, or a column {PREFIX}NAME per channel, but has both: remove one kind."
        )
    return columns or {ONLY: PATH}


def _files(
    finder: FileFinder, table: pd.DataFrame, column: str, path: Path, *, image_ids: tuple[str, ...], exclude: Collection[str]
) -> list[Path | None]:
    """The volume of each row in one column. Raises: DataError where it is not there, or no volume by its name."""
    found: list[Path | None] = []
    for number, image_id, cell in zip(table.index, image_ids, table[column], strict=True):
        what = f"{column} in row {number} of {path}"
        file = None if pd.isna(cell) else finder.find(str(cell), what, folders=True)
        if file is None and not pd.isna(cell) and image_id not in exclude:
            near = finder.nearest(str(cell))
            hint = f" (nearest is {near!r})" if near else ""
            raise DataError(f"{what} must name a file or folder, but there is no {str(cell)!r}{hint}: correct it.")
        if file is not None and file.is_file() and not is_volume_name(file.name):
            raise DataError(
                f"{what} must name a volume ({', '.join(ENDINGS[:2])}, a DICOM folder; Analyze and MGH files too), but got "
                f"{file.name!r}: convert it, or remove the row."
            )
        found.append(file)
    return found
