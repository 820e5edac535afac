"""A finished search as the delivering verbs see it: where its pixels and parts lie, and its checkpoints per split."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tune_btxrd.data.splits.split_files import split_name
from tune_btxrd.errors import ResultError
from tune_btxrd.search.record import read_settings
from tune_btxrd.training.source import Source

WINNER, HAND_MADE = "winner", "hand-made"


@dataclass(frozen=True, kw_only=True)
class FinishedSplit:
    """The checkpoints of one split.

    Attributes:
        name: of the split, "fold 2/5"; stem: as part of a file name, "fold_2_of_5".
        folder: `checkpoints/<name>/<stem>`.
        winner: `best_<stem>.pt`.
        hand_made: the hand-made config on the same split; None where the winner is the hand-made config.
        seeds: further seeds of the winner.
    """

    name: str
    stem: str
    folder: Path
    winner: Path
    hand_made: Path | None
    seeds: tuple[Path, ...]

    @property
    def models(self) -> dict[str, Path]:
        """What an evaluation compares: WINNER, and HAND_MADE where there is one."""
        return {WINNER: self.winner} | ({HAND_MADE: self.hand_made} if self.hand_made else {})


def finished_splits(checkpoints: Path) -> list[FinishedSplit]:
    """Every split that has a winner in `checkpoints/<name>`, `stratified` first. Raises: ResultError where none has."""
    found = []
    for winner in checkpoints.glob("best_*.pt"):
        stem = winner.stem.removeprefix("best_")
        folder = checkpoints / stem
        hand_made = folder / "hand_made" / "best.pt"
        found.append(
            FinishedSplit(
                name=split_name(stem),
                stem=stem,
                folder=folder,
                winner=winner,
                hand_made=hand_made if hand_made.is_file() else None,
                seeds=tuple(sorted(folder.glob("seed_*/best.pt"))),
            )
        )
    if not found:
        raise ResultError(
            f"{checkpoints} must hold best_<split>.pt, but holds none: run `retrain {checkpoints.name}` first."
        )
    return sorted(found, key=lambda split: (split.stem != "stratified", split.stem))


def chosen_splits(checkpoints: Path, names: Sequence[str] | None) -> list[FinishedSplit]:
    """The retrained splits of these names, or all. Raises: ResultError for an unknown one."""
    found = finished_splits(checkpoints)
    known = {item.name: item for item in found} | {item.stem: item for item in found}
    if unknown := [name for name in names or () if name not in known]:
        names_found = ", ".join(item.name for item in found)
        raise ResultError(f"A split must have been retrained ({names_found}), but got {unknown[0]!r}: choose one of them.")
    return found if names is None else [known[name] for name in names]


def source_of(results: Path) -> Source:
    """Where pixels and parts lie: as `search.json` says, with the splits beside it. Raises: ResultError."""
    settings = read_settings(results)
    if "source" not in settings:
        raise ResultError(f"{results / 'search.json'} must say where pixels lie (`source`), but does not: restore it.")
    return replace(Source.from_dict(settings["source"]), splits=str((results / "splits").resolve()))
