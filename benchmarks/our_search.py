"""Our search as `search` runs it, without the command line around it: what several benchmarks time."""

import shutil
import tempfile
from pathlib import Path

from tune_btxrd.distributed.connect import connected
from tune_btxrd.distributed.driver import SearchRun, run_search
from tune_btxrd.distributed.forks import warm
from tune_btxrd.results.search_json import Layout
from tune_btxrd.search.listener import Listener
from tune_btxrd.search.record import SearchRecord
from tune_btxrd.search.space.spec import SearchSpec
from tune_btxrd.training.source import Source


def our_search(
    work: Path,
    spec: SearchSpec,
    source: Source,
    listener: Listener,
    *,
    slots: int,
    threads: int,
    device: str = "cpu",
    gpus: float = 0.0,
) -> SearchRecord:
    """A search on the `stratified` split with Ray started for it; its folder in `work` goes with its end.

    Raises:
        KeyboardInterrupt: the listener ended it.
    """
    parent = Path(tempfile.mkdtemp(dir=work))
    folder = parent / "search"
    folder.mkdir()
    (folder / "search.json").write_text("{}")
    (folder / "journal.jsonl").touch()
    layout = Layout(slots=slots, cpus=1, gpus=gpus, threads=threads, epoch_seconds=1.0)
    run = SearchRun(folder=folder, source=source, split="stratified", device=device, layout=layout)
    try:
        with warm(), connected(address=None, name="benchmark") as cluster:
            return run_search(spec, run, cluster, listeners=(listener,))
    finally:
        shutil.rmtree(parent)
