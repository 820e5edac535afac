"""Where the time went: what every slot did from the first trial to the last, read from the times in the journal."""

from collections import defaultdict
from dataclasses import dataclass
from itertools import pairwise

from tune_btxrd.search.record import SearchRecord, TrialRecord

WORK = ("training", "validation", "start", "between", "idle")  # the shares of slot time, in this order


@dataclass(frozen=True, kw_only=True)
class Span:
    """A trial's stay in a slot within one session.

    Attributes:
        lane: which slot, from 0; begin: seconds since the search began when the trial was handed out.
        first: seconds when its first epoch began; end: when it ended, or its last epoch so far.
    """

    trial: TrialRecord
    lane: int
    begin: float
    first: float
    end: float


@dataclass(frozen=True, kw_only=True)
class SlotUse:
    """What the slots did.

    Attributes:
        spans: stays of trials, in order of time; lanes: how many slots.
        seconds: slot seconds by kind of work (see WORK). start: from hand-out to the first epoch; between: saving, reporting
            and waiting between epochs; idle: nothing to do. Time between sessions counts for nothing.
        downtime: (begin, end) between sessions, seconds since the search began.
    """

    spans: tuple[Span, ...]
    lanes: int
    seconds: dict[str, float]
    downtime: tuple[tuple[float, float], ...]

    def share(self, work: str) -> float:
        """The part of all slot time that a kind of work took, in [0, 1]."""
        return self.seconds[work] / (sum(self.seconds.values()) or 1.0)

    @property
    def unit(self) -> tuple[str, float]:
        """What its time is best told in, and how many seconds that is."""
        whole = max(span.end for span in self.spans)
        return ("seconds", 1.0) if whole < 180 else ("minutes", 60.0) if whole < 3 * 3600 else ("hours", 3600.0)


def slot_use(record: SearchRecord) -> SlotUse | None:
    """What every slot did; None for a search without an epoch."""
    trials = [trial for trial in record.trials.values() if trial.epochs]
    if not trials:
        return None
    times = sorted({t for trial in record.trials.values() for t in _times(trial)})
    starts = sorted(event["time"] for event in record.sessions if event["time"] <= times[-1]) or times[:1]
    zero = min(starts[0], times[0])
    bounds = [(begin, max(t for t in [begin, *times] if t < end)) for begin, end in pairwise([*starts, times[-1] + 1])]
    stays = sorted((stay for trial in trials for stay in _stays(trial, bounds)), key=lambda stay: stay[1])
    spans = _lanes(stays, zero)
    lanes = 1 + max(span.lane for span in spans)
    seconds = _shares(stays, lanes * sum(end - begin for begin, end in bounds))
    downtime = [(a[1] - zero, b[0] - zero) for a, b in pairwise(bounds)]
    return SlotUse(spans=spans, lanes=lanes, seconds=seconds, downtime=tuple(downtime))


Stay = tuple[TrialRecord, float, float, list[dict[str, float]]]  # trial, begin, end, its epochs in between


def _times(trial: TrialRecord) -> list[float]:
    return [trial.started, *(row["time"] for row in trial.epochs), *([trial.ended] if trial.ended else [])]


def _stays(trial: TrialRecord, bounds: list[tuple[float, float]]) -> list[Stay]:
    """A trial that outlived an interruption has one stay per session in which it finished an epoch; so has one that paused,
    which leaves its slot.
    """
    stays: list[Stay] = []
    for begin, end in bounds:
        for number, rows in enumerate(_between_pauses(trial, begin, end)):
            is_last = rows[-1] is trial.epochs[-1] and not trial.waits
            last = trial.ended if is_last and trial.ended and begin <= trial.ended <= end else rows[-1]["time"]
            first = _begun(rows[0]) if number else max(begin, trial.started)
            stays.append((trial, first, max(last, rows[-1]["time"]), rows))
    return stays


def _between_pauses(trial: TrialRecord, begin: float, end: float) -> list[list[dict[str, float]]]:
    """The trial's epochs within a session, a list for each time that it had a slot."""
    groups: dict[int, list[dict[str, float]]] = defaultdict(list)
    for row in trial.epochs:
        if begin <= row["time"] <= end:
            groups[sum(row["epoch"] > pause for pause in trial.pauses)].append(row)
    return list(groups.values())


def _begun(row: dict[str, float]) -> float:
    return row["time"] - row["train_seconds"] - row["val_seconds"]


def _lanes(stays: list[Stay], zero: float) -> tuple[Span, ...]:
    """Stays of one process share a lane; a process that came after another had gone takes its lane."""
    processes: dict[str, list[Stay]] = defaultdict(list)
    for stay in stays:
        processes[str(stay[3][0].get("slot", ""))].append(stay)
    free: list[float] = []
    spans = []
    for mine in processes.values():
        begin, end = mine[0][1], max(stay[2] for stay in mine)
        lane = next((index for index, until in enumerate(free) if until <= begin + 1), len(free))
        free[lane : lane + 1] = [end]
        spans += [
            Span(trial=t, lane=lane, begin=b - zero, first=max(b, _begun(rows[0])) - zero, end=e - zero)
            for t, b, e, rows in mine
        ]
    return tuple(sorted(spans, key=lambda span: (span.begin, span.lane)))


def _shares(stays: list[Stay], whole: float) -> dict[str, float]:
    training = sum(row["train_seconds"] for stay in stays for row in stay[3])
    validation = sum(row["val_seconds"] for stay in stays for row in stay[3])
    start = sum(max(0.0, _begun(rows[0]) - begin) for _, begin, _, rows in stays)
    busy = sum(end - begin for _, begin, end, _ in stays)
    between = max(0.0, busy - training - validation - start)
    values = (training, validation, start, between, max(0.0, whole - busy))
    return dict(zip(WORK, values, strict=True))
