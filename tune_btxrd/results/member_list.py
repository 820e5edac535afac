"""Member list: what an ensemble or a soup is made of, what each member was worth on validation, and what they are together.

checkpoints/<name>/<split>/
    ensemble/members.json seed_42/best.pt ... an ensemble of seeds; the folder is the model
    soup/members.json best_<split>.pt         a soup of seeds; the file is an ordinary checkpoint
checkpoints/<name>/ensemble/                  an ensemble of folds, the same with fold_1_of_5/best.pt ...
"""

import contextlib
import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from tune_btxrd.errors import ResultError, first_line
from tune_btxrd.files import aside, write_whole
from tune_btxrd.results.typed_json import WrongValueError, from_json
from tune_btxrd.scoring.intervals import NOT_ESTIMABLE

FILE = "members.json"
Kind = Literal["ensemble", "soup", "fold ensemble"]  # and names of models in tables
ENSEMBLE: Kind = "ensemble"
SOUP: Kind = "soup"
FOLD_ENSEMBLE: Kind = "fold ensemble"
FOLDERS: dict[Kind, str] = {ENSEMBLE: "ensemble", SOUP: "soup", FOLD_ENSEMBLE: "ensemble"}
RULES: dict[Kind, str] = {
    ENSEMBLE: "mean of the members' probabilities",
    SOUP: "mean of the weights of those that were kept, BatchNorm statistics of the bare training images",
    FOLD_ENSEMBLE: "mean of the folds' calibrated probabilities",
}
MOST_BYTES = 4 * 2**20


@dataclass(frozen=True, kw_only=True)
class Member:
    """One training in an average.

    Attributes:
        name: "seed 42" or "fold 2/5"; file: its model, relative to the folder of the list; of a soup the soup.
        checkpoint_sha256: of its checkpoint.
        value: the monitored value of its own best epoch; of a fold on the images that it alone validates on.
        kept: of a soup: whether its weights are in it; together: the value of the mean with it, where that was tried.
    """

    name: str
    file: str
    checkpoint_sha256: str
    value: float
    kept: bool = True
    together: float | None = None


@dataclass(frozen=True, kw_only=True)
class Gain:
    """A score on the validation part: average minus single winner, with the paired interval; None: not to be computed."""

    metric: str
    difference: float | None
    low: float | None
    high: float | None

    def __str__(self) -> str:
        if self.difference is None:
            return f"{self.metric} undefined"
        known = self.low is not None and self.high is not None
        return f"{self.metric} {self.difference:+.3f} ({f'{self.low:+.3f} to {self.high:+.3f}' if known else NOT_ESTIMABLE})"


@dataclass(frozen=True, kw_only=True)
class MemberList:
    """An average of trainings.

    Attributes:
        kind: ENSEMBLE, SOUP or FOLD_ENSEMBLE; split: whose trainings.
        monitor: what `value` and the members' values are, in words.
        members: in the order in which they came; those of a soup from the best one down.
        value: the monitored value of the average on validation; None for folds, which share no validation part.
        scores: column of `training_log.csv` -> value of the average; empty for folds.
        gains: beside the single winner on the validation part; empty for folds.
    """

    kind: Kind
    split: str
    monitor: str
    members: tuple[Member, ...]
    value: float | None
    scores: Mapping[str, float | None]
    gains: tuple[Gain, ...] = ()

    @property
    def kept(self) -> tuple[Member, ...]:
        """The members that are in it."""
        return tuple(member for member in self.members if member.kept)

    @property
    def title(self) -> str:
        """Its name for a person: "ensemble of 3", "soup of 2 of 3"."""
        return f"{self.kind} of {len(self.kept)}" + (f" of {len(self.members)}" if self.kind == SOUP else "")

    def lines(self) -> Iterator[str]:
        """Sentences: what it is made of; then its gain over the single winner."""
        told = ", ".join(
            f"{item.name} {item.value:.4f}"
            + ("" if item.together is None else f" ({item.together:.4f} together: {'kept' if item.kept else 'left out'})")
            for item in self.members
        )
        yield f"{self.split}, {self.title}: {RULES[self.kind]}. {self.monitor} of each: {told}."
        if self.gains:
            yield f"{self.split}, {self.kind} minus winner on validation, 95 % paired: {', '.join(map(str, self.gains))}."

    def save(self, folder: Path) -> None:
        """Writes `members.json`, whole or not at all."""
        content = asdict(self) | {"rule": RULES[self.kind]}
        write_whole(folder / FILE, json.dumps(content, indent=1, ensure_ascii=False) + "\n")

    @classmethod
    def load(cls, folder: Path) -> "MemberList":
        """What `save` wrote. Raises: ResultError."""
        path = folder / FILE
        try:
            if path.stat().st_size > MOST_BYTES:
                raise WrongValueError(f"it has more than {MOST_BYTES:,} bytes")
            found = from_json(cls, json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, RecursionError) as error:
            raise ResultError(
                f"{path} must be a member list of `retrain`, but: {first_line(error)}. Retrain again."
            ) from error
        files = [Path(member.file) for member in found.members]
        if not files or any(file.is_absolute() or ".." in file.parts for file in files):  # it may come from anybody
            raise ResultError(f"{path} must name models beside itself, but does not: retrain again.")
        return found


def defined(value: float) -> float | None:
    """A number as a list keeps it: JSON has no NaN."""
    return None if math.isnan(value) else float(value)


def averages_in(checkpoints: Path, stem: str) -> dict[Kind, Path]:
    """Kind -> folder of the averages of a split's seeds that lie in `checkpoints/<name>`."""
    found = {kind: checkpoints / stem / FOLDERS[kind] for kind in (ENSEMBLE, SOUP)}
    return {kind: folder for kind, folder in found.items() if (folder / FILE).is_file()}


def member_lists(checkpoints: Path, stems: Sequence[str] = ()) -> list[MemberList]:
    """Every average of `checkpoints/<name>`, of these splits or of all; the ensemble of folds last. Raises: ResultError."""
    own = stems or sorted({path.parent.parent.name for path in checkpoints.glob(f"*/*/{FILE}")} - {"ensemble"})
    folders = [folder for stem in own for folder in averages_in(checkpoints, stem).values()]
    of_folds = checkpoints / FOLDERS[FOLD_ENSEMBLE]
    if not stems and (of_folds / FILE).is_file():
        folders.append(of_folds)
    return [MemberList.load(folder) for folder in folders]


def link(file: Path, target: Path) -> None:
    """A second name for a file; a copy where the disk has no links. Raises: ResultError."""
    try:
        with aside(target) as part:
            try:
                os.link(file, part)
            except OSError:
                shutil.copyfile(file, part)
    except OSError as error:
        raise ResultError(f"{target} must be writable, but: {error.strerror or error}. Free space first.") from error


def remove_others(folder: Path, members: Sequence[Member]) -> None:
    """Members of an earlier list that are in this one no more."""
    kept = {folder / member.file for member in members}
    with contextlib.suppress(FileNotFoundError):
        (folder / FILE).unlink()  # it names what goes now
    for path in set(folder.glob("*/best.pt")) - kept:
        path.unlink()
