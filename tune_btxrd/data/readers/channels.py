"""Channels: which of a dataset's volumes a model gets per patient, in which order, and what of patients that lack one."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tune_btxrd.data.readers.names import check_name, examples
from tune_btxrd.errors import ConfigError, DataError

MissingChannel = Literal["refuse", "zero"]
ONLY = "volume"  # the name of the channel where a table has one column `path`
Files = tuple[Path | None, ...]  # one per channel


@dataclass(frozen=True, kw_only=True)
class ChannelRequest:
    """What the user says of channels (`--channels`, `--missing-channel`); None where nothing was said."""

    names: tuple[str, ...] | None = None
    missing: MissingChannel | None = None

    def choose(self, present: Sequence[str], root: Path) -> tuple[str, ...]:
        """The channels asked for, else all. Raises: ConfigError naming those that are there."""
        for name in present:
            check_name(name, f"A channel of {root}")
        if self.names is None:
            return tuple(present)
        if unknown := [name for name in self.names if name not in present]:
            raise ConfigError(
                f"--channels must name channels of {root}, but {unknown[0]!r} is none: there are {examples(present, 12)}."
            )
        return self.names

    def refuse_for_images(self, root: Path) -> None:
        """Raises ConfigError where something is said of channels, but the dataset holds images."""
        for flag, value in (("--channels", self.names), ("--missing-channel", self.missing)):
            if value is not None:
                raise ConfigError(f"{flag} is for volumes, but {root} holds images: leave it out.")

    def check(
        self, volumes: Mapping[str, Files], channels: Sequence[str], root: Path, exclude: Collection[str]
    ) -> tuple[str, ...]:
        """What to say of the patients (id -> files) that lack a channel: zeros stand for it where the user says so.

        Raises:
            DataError: one lacks a channel and nothing was said of it, or lacks all of them.
        """
        asked = {image_id: files for image_id, files in volumes.items() if image_id not in exclude}
        if empty := [image_id for image_id, files in asked.items() if not any(files)]:
            raise DataError(
                f"Every patient needs a volume, but {len(empty)} of {len(volumes)} in {root} have none of "
                f"{', '.join(channels)} ({examples(empty)}): leave them out with --exclude FILE."
            )
        lacking = [
            f"{image_id} {channel}"
            for image_id, files in asked.items()
            for channel, file in zip(channels, files, strict=True)
            if file is None
        ]
        if not lacking:
            return ()
        patients = sum(None in files for files in asked.values())
        if self.missing == "zero":
            return (f"{patients} of {len(asked)} patients lack a channel, zeros stand for it: {examples(lacking, 5)}.",)
        whole = [name for column, name in enumerate(channels) if all(files[column] is not None for files in asked.values())]
        cure = f"choose those that all have with --channels {','.join(whole)}" if whole else "choose others with --channels"
        raise DataError(
            f"Every patient needs all channels, but {patients} of {len(asked)} in {root} lack one ({examples(lacking)}): "
            f"{cure}, put zeros for them with --missing-channel zero, or leave them out with --exclude FILE."
        )
