"""DataRequest: which dataset, and how it is read."""

from dataclasses import dataclass, fields, replace
from pathlib import Path

import platformdirs

from tune_btxrd.data.cache.dicom_picture import Window
from tune_btxrd.data.phantom import PhantomSpec
from tune_btxrd.data.readers.channels import ChannelRequest, MissingChannel
from tune_btxrd.data.splits.groups import GroupKind
from tune_btxrd.errors import DataError

SEED = 42  # of splits, where nobody chooses another


@dataclass(frozen=True, kw_only=True)
class DataRequest:
    """Which dataset, and how it is read; None where nothing was said. `search.json` keeps it with everything said.

    Attributes:
        data: the dataset; None: the phantom.
        cache: folder of decoded images; default: the user's cache folder.
        groups: what stays in one part; default: duplicates.
        exclude: file of ids to leave out; duplicates: file of duplicate pairs, instead of hashing.
        positive_class: the class to watch; default: the dataset's own choice.
        layout: what the folders of a dataset without a table mean; default: decided by their names.
        phantom: how the phantom is drawn.
        seed: decides the splits; default: SEED.
        event: of a label store: the last event that counts, so that labels that come later change nothing.
        channels: of volumes: those that a model gets, in order; default: all.
        spacing: of volumes: mm to which they are resampled; default: as they are.
        missing_channel: of volumes: what of patients that lack a channel; default: refuse.
        window: of DICOM images: center and width of the view; default: what each file says.
    """

    data: Path | None = None
    cache: Path | None = None
    groups: GroupKind | None = None
    exclude: Path | None = None
    duplicates: Path | None = None
    positive_class: str | None = None
    accept_revision: bool = False
    layout: str | None = None
    table_only: bool = False
    phantom: PhantomSpec | None = None
    seed: int | None = None
    event: int | None = None
    channels: tuple[str, ...] | None = None
    spacing: float | None = None
    missing_channel: MissingChannel | None = None
    window: tuple[float, ...] | None = None

    @property
    def is_phantom(self) -> bool:
        """Whether the embedded synthetic dataset is meant."""
        return self.data is None

    @property
    def cache_folder(self) -> Path:
        """Where decoded images go. Raises: DataError where no cache is said and this user has no folder for one."""
        folder = self.cache or Path(platformdirs.user_cache_dir("tune_btxrd"))
        if not folder.is_absolute() and self.cache is None:
            raise DataError("Decoded images need a folder, but this user has no home folder: choose one with --cache.")
        return folder

    @property
    def kept_together(self) -> GroupKind:
        """What stays in one part."""
        return self.groups or "duplicates"

    @property
    def split_seed(self) -> int:
        """What decides the splits."""
        return SEED if self.seed is None else self.seed

    @property
    def drawn(self) -> PhantomSpec:
        """How the phantom is drawn."""
        return self.phantom or PhantomSpec()

    @property
    def view(self) -> Window | None:
        """Center and width of the view of DICOM images, where it is not their own."""
        return None if self.window is None else (self.window[0], self.window[1])

    @property
    def asked_channels(self) -> ChannelRequest:
        """What is said of channels."""
        return ChannelRequest(names=self.channels, missing=self.missing_channel)

    def complete(self) -> "DataRequest":
        """The same with every default said and every path absolute: what `search.json` keeps."""
        paths = {name: path.resolve() for name in ("data", "exclude", "duplicates") if (path := getattr(self, name))}
        return replace(
            self,
            cache=self.cache_folder.resolve(),
            groups=self.kept_together,
            phantom=self.drawn,
            seed=self.split_seed,
            **paths,
        )

    def contradictions(self, began: "DataRequest") -> dict[str, tuple[object, object]]:
        """What is said here and was otherwise when a search began: name -> (began with, said now). Places may move."""
        said, known = self.complete(), began.complete()
        return {
            item.name: (getattr(known, item.name), getattr(said, item.name))
            for item in fields(self)
            if item.name not in ("data", "cache")
            and getattr(self, item.name) is not None
            and getattr(self, item.name) is not False
            and getattr(said, item.name) != getattr(known, item.name)
        }
