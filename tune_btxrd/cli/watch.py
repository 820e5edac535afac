"""Verb `watch`: a search as it stands, from its journal alone: running, finished, killed or copied. Neither Ray nor torch.

On a terminal the table is drawn again as the journal grows, until the search has finished; elsewhere it is shown once.
"""

import importlib.util
import math
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.table import Table

from tune_btxrd.console import OUT, live_block, plain, prints, say, show
from tune_btxrd.errors import ConfigError, ResultError
from tune_btxrd.pipeline.live_view import repeats_line
from tune_btxrd.pipeline.place import Place
from tune_btxrd.results.search_json import SearchSettings
from tune_btxrd.search.budget import minutes
from tune_btxrd.search.columns import watched_column
from tune_btxrd.search.pace import Follower, is_finished, pace, progress_of
from tune_btxrd.search.record import SearchRecord, TrialRecord, states_line
from tune_btxrd.search.rungs import rung_epochs
from tune_btxrd.search.selection.recommendation import FEWEST, best_by_rule
from tune_btxrd.search.space.spec import SearchSpec
from tune_btxrd.search.tables import refresh_tables
from tune_btxrd.tasks.record import shown

BLOCKS, PLAIN = "▁▂▃▄▅▆▇█", "_.,-~=*#"  # from low to high; the second where the terminal has no such characters
SPARK = 16  # characters of a curve
ENDED_SHOWN = 8  # ended trials in the table, the best first
REFRESH_SECONDS = 2.0
INSTALL = "pip install optuna-dashboard"


def watch(place: Place, *, dashboard: bool | None = None, refresh: float = REFRESH_SECONDS) -> None:
    """Shows a search until it has finished or Ctrl-C; where the output is no terminal, once.

    Args:
        place: of the search.
        dashboard: serve the study in optuna-dashboard beside the table; None: on a terminal, where it is installed.
        refresh: seconds between two looks at the journal.

    Raises:
        ResultError: no search there, or its journal is damaged.
        ConfigError: a dashboard is asked for, but not installed.
    """
    settings, folder = place.settings(), place.folder
    if settings.kind != "search":
        raise ResultError(f"{settings.name} is one training without a search: see {settings.checkpoints}.")
    view = View(Follower(folder), settings.spec(folder), settings, place=place)
    if progress_of(view.follower.record, view.spec, now=time.time()) != "running":
        refresh_tables(view.follower.record)
    if not OUT.is_terminal and not dashboard:
        for part in view.parts():
            show(part) if isinstance(part, Table) else say(part.plain)
        return
    with _dashboard(folder, asked=dashboard) as url:
        for line in where_lines(view.follower.record, url):
            say(line)
        _follow(view, refresh, stay=url is not None)


def _follow(view: "View", refresh: float, *, stay: bool) -> None:
    """Draws again and again; with a dashboard to serve, also after the end."""
    try:
        with live_block(lambda: Group(*view.parts())) as draw:
            while not is_finished(view.follower.update(), view.spec):
                draw()
                time.sleep(refresh)
            draw()
        if stay:
            say("The search has finished; the dashboard stays until Ctrl-C.")
            while True:
                time.sleep(3600)
    except KeyboardInterrupt:
        say("No longer watching; the search itself goes on.")


class View:
    """The table of a search, drawn from its record."""

    def __init__(
        self,
        follower: Follower,
        spec: SearchSpec,
        settings: SearchSettings,
        *,
        place: Place,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.follower, self.spec, self.settings, self.place, self.now = follower, spec, settings, place, now
        self.positive, self.recall = settings.positive_class, watched_column(settings.source)

    def parts(self) -> Sequence[Any]:
        """The table, then what there is to say."""
        record = self.follower.update()
        return [self._table(record), *(plain(line) for line in self.lines(record))]

    def lines(self, record: SearchRecord) -> list[str]:
        """How many trials ended how, the best so far, and the time left or why there is none."""
        best = best_by_rule(record.search_trials, self.spec)
        found = f"; best: {best.words}" if best else ""
        repeats = repeats_line(record, self.spec)
        lines = [f"{states_line(record.search_trials)} of {self.spec.trials} trials{repeats and f'; {repeats}'}{found}"]
        lines += [best.note] if best and best.note and len(record.search_trials) >= FEWEST else []
        progress = progress_of(record, self.spec, now=self.now())
        if progress == "finished":
            return [*lines, f"Finished. Next: {self.place.command('report')}"]
        speed = pace(record, self.spec, now=self.now())
        if progress == "interrupted":
            again = self.place.command("run")
            return [*lines, f"No news for {minutes(speed.silence)}: it was interrupted. Go on with: {again}"]
        left = f"about {minutes(speed.left)} left" if speed.left is not None else "time left: known after the first epoch"
        return [*lines, left]

    def _table(self, record: SearchRecord) -> Table:
        folds = f" (trials {self.spec.judged_by})" if self.spec.judged_by else ""
        title = plain(f"Search {self.settings.name}{folds}")
        table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
        table.add_column("trial")
        table.add_column("state")
        for column in ("epoch", "next rung"):
            table.add_column(column, justify="right")
        table.add_column("val loss", no_wrap=True)
        label = self.spec.monitored.label.removeprefix("val ")
        for column in ("best" if label == "loss" else f"best {label}", f"{self.positive} recall"):
            table.add_column(plain(column), justify="right")
        for trial in shown_trials(record):
            table.add_row(*map(plain, self._cells(trial)), style=None if trial.state == "running" else "dim")
        return table

    def _cells(self, trial: TrialRecord) -> tuple[str, ...]:
        done = len(trial.epochs)
        ahead = [rung for rung in rung_epochs(self.spec) if rung > done]
        following = str(ahead[0]) if ahead and not trial.has_ended and trial.role == "search" else ""
        recall = shown(trial.best[self.recall], 2) if trial.best else ""
        best = f"{trial.score:.4f}" if trial.score is not None else ""
        return trial.label, trial.state_words, f"{done}/{self.spec.epochs}", following, spark_line(trial), best, recall


def shown_trials(record: SearchRecord) -> list[TrialRecord]:
    """Running trials, then the best that are paused and the best that ended: a search of 200 trials fits on a screen."""
    everyone = [*record.search_trials, *record.confirmations]
    running = [trial for trial in everyone if trial.state == "running"]
    ended = [trial for trial in record.search_trials if trial.has_ended]
    ended.sort(key=lambda trial: trial.rank)
    paused = sorted((trial for trial in everyone if trial.state == "paused"), key=lambda trial: trial.rank)
    return [*running, *paused[:ENDED_SHOWN], *ended[:ENDED_SHOWN]]


def spark_line(trial: TrialRecord) -> str:
    """The trial's val loss as a line of blocks, the last SPARK epochs; lower is better."""
    losses = [float(row["val_loss"]) for row in trial.epochs if row["val_loss"] is not None][-SPARK:]
    finite = [loss for loss in losses if math.isfinite(loss)]
    if not finite:
        return ""
    low, span = min(finite), (max(finite) - min(finite)) or 1.0
    marks = BLOCKS if prints(BLOCKS) else PLAIN
    return "".join(marks[round((loss - low) / span * (len(marks) - 1))] if math.isfinite(loss) else "!" for loss in losses)


def where_lines(record: SearchRecord, url: str | None) -> list[str]:
    """Addresses to open in a browser, and how to get the one that is not there."""
    ray = record.sessions[-1].get("dashboard") if record.sessions else None
    lines = [f"Ray dashboard:    {ray} (while the search runs)"] if ray else []
    lines.append(f"Optuna dashboard: {url}" if url else f"Optuna dashboard: {INSTALL}, then watch again")
    return lines


@contextmanager
def _dashboard(folder: Path, *, asked: bool | None) -> Iterator[str | None]:
    """optuna-dashboard on a free port of this machine while the block runs; yields its address, None without it."""
    installed, database = importlib.util.find_spec("optuna_dashboard") is not None, folder / "optuna.db"
    if asked and not installed:
        raise ConfigError(f"--dashboard needs optuna-dashboard, but it is not installed: {INSTALL}")
    if asked is False or not installed or not database.is_file():
        yield None
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = (
        "import sys, pathlib, optuna_dashboard; from tune_btxrd.search.study_database import open_storage; "
        "storage = open_storage(pathlib.Path(sys.argv[1])); "
        "optuna_dashboard.run_server(storage, host='127.0.0.1', port=int(sys.argv[2]))"
    )
    server = subprocess.Popen(
        [sys.executable, "-c", program, str(database.resolve()), str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()
