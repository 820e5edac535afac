"""MemoryKills: retries trials whose process Ray ended for lack of memory, in fewer slots if it repeats.

Ray's memory monitor kills the process; Tune's actor manager does not know that error and raises it out of `tuner.fit()`, so
the driver begins a new Tuner with the same conductor. Unfinished trials go on from their checkpoints.
"""

import re
from collections import Counter
from collections.abc import Callable

from tune_btxrd.console import warn
from tune_btxrd.distributed.failures import MEMORY_LOW, RETRIED, chain
from tune_btxrd.search.conductor import Conductor

PID = re.compile(r"\bpid[=: ]+(\d+)")
ALONE = "out of memory although it ran alone: a smaller batch_size or image_size, or more memory"


class MemoryKills:
    """Counts the kills of a search.

    Args:
        slots: trials at once that the nodes have room for, asked anew at each step.
        retries: kills that a trial survives while it runs alone; beside others, the memory that lacks is not its own.
    """

    def __init__(self, conductor: Conductor, slots: Callable[[], int], *, retries: int) -> None:
        self.conductor, self._slots, self.retries = conductor, slots, retries
        self.kills = 0
        self._alone: Counter[str] = Counter()

    def slots(self) -> int:
        """Trials at once: one less for each kill after the first, but one at least."""
        return max(1, self._slots() - max(0, self.kills - 1))

    def take(self, error: Exception) -> None:
        """After a kill that ended `tuner.fit()`: takes all running trials back, to be handed out again.

        Raises:
            Exception: the error itself, where it is no kill by Ray's memory monitor.
        """
        from ray.exceptions import OutOfMemoryError

        found = next((item for item in chain(error) if isinstance(item, OutOfMemoryError)), None)
        if found is None:
            raise error
        label = self._killed(str(found))
        was_alone = self.conductor.slots == 1
        self.conductor.take_back()
        self.count(label)
        if label is None:
            return
        self._alone[label] += was_alone
        if self._alone[label] > self.retries:
            self.conductor.end(label, state="failed", reason=ALONE)
        else:
            self.conductor.note(label, f"{RETRIED}: {MEMORY_LOW}")

    def count(self, label: str | None) -> None:
        """Counts a kill and says what follows from it."""
        self.kills += 1
        slots = self.slots()
        whose = f"trial {label}'s process" if label else "a trial's process"
        warn(
            f"Out of memory: Ray stopped {whose}. It goes on from its checkpoint, {slots} at a time from here "
            f"(--resume --slots {slots} begins so; more memory or a smaller --batch-size helps)."
        )

    def _killed(self, text: str) -> str | None:
        """The trial whose process Ray's text names, if one of the running trials has reported from it."""
        live = self.conductor.live
        if len(live) == 1:
            return live[0].label
        pids = set(PID.findall(text))
        slots = {trial.label: str(trial.epochs[-1]["slot"]) for trial in live if trial.epochs}
        return next((label for label, slot in slots.items() if slot.rpartition(":")[2] in pids), None)
