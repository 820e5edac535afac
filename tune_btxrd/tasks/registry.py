"""The tasks by name, as `search.json` and checkpoints keep them."""

from tune_btxrd.errors import ResultError
from tune_btxrd.tasks.multiclass import MULTICLASS
from tune_btxrd.tasks.multilabel import MULTILABEL
from tune_btxrd.tasks.record import Column
from tune_btxrd.tasks.task import Task

DEFAULT = MULTICLASS  # of what was written before tasks had names
TASKS: dict[str, Task] = {task.name: task for task in (MULTICLASS, MULTILABEL)}


def score_fields() -> dict[str, Column]:
    """Every metric of a validation part that some task reports, by name: what a constraint may ask of."""
    fields = (item for task in TASKS.values() for item in task.record.columns().items())
    return {name: known for name, known in fields if known.kind == "score"}


def task_named(name: str) -> Task:
    """The task of that name. Raises: ResultError."""
    if name not in TASKS:
        known = ", ".join(TASKS)
        raise ResultError(f"A task must be one of {known}, but got {name!r}: it was written by a later version; use that.")
    return TASKS[name]
