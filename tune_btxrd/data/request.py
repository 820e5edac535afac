"""DataRequest: which dataset, and how it is read."""

from dataclasses import dataclass, field
from pathlib import Path

import platformdirs

from tune_btxrd.data.phantom import PhantomSpec
from tune_btxrd.data.splits.groups import GroupKind


@dataclass(frozen=True, kw_only=True)
class DataRequest:
    """Which dataset, and how it is read. Plain data: `search.json` keeps it, so that later verbs find the dataset again."""

    data: Path | None = None  # None: the phantom
    cache: Path = field(default_factory=lambda: Path(platformdirs.user_cache_dir("tune_btxrd")))
    groups: GroupKind = "duplicates"
    exclude: Path | None = None
    duplicates: Path | None = None
    positive_class: str | None = None
    accept_revision: bool = False
    layout: str | None = None  # what the folders of a dataset without a table mean; None: decided by their names
    table_only: bool = False
    phantom: PhantomSpec = field(default_factory=PhantomSpec)
    seed: int = 42

    @property
    def is_phantom(self) -> bool:
        """Whether the embedded synthetic dataset is meant."""
        return self.data is None
