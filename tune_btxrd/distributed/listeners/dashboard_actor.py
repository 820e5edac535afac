"""RowsActor: the actor behind `DashboardRows`, in a file of its own, so that its process imports nothing else."""

import asyncio


class RowsActor:
    """Holds one waiting call per running trial, and prints the lines of its log."""

    def __init__(self) -> None:
        self._events: dict[str, asyncio.Event] = {}

    def _event(self, label: str) -> asyncio.Event:
        return self._events.setdefault(label, asyncio.Event())

    async def hold(self, label: str) -> str:
        """Returns when the trial is released; its row in the dashboard is as long."""
        await self._event(label).wait()
        self._events.pop(label, None)  # a retried trial holds several
        return label

    async def release(self, label: str, line: str) -> None:
        """Ends the trial's row."""
        await self.tell(line)
        self._event(label).set()

    async def tell(self, line: str) -> None:
        """A line of the log."""
        print(line, flush=True)  # an actor's output is its log
