"""Time on task: what passes while somebody works, long pauses left out."""

from __future__ import annotations

import time
from collections.abc import Callable

PAUSE_SECONDS = 60.0
"""Without a sign of work for longer than this, nobody was at it: such a time does not count."""


class TaskClock:
    """Adds up the time between signs of work.

    Parameters
    ----------
    pause_after
        Seconds between two signs beyond which the time between them was a pause.
    now
        Seconds on a clock that never goes back.
    """

    def __init__(
        self, pause_after: float = PAUSE_SECONDS, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._pause_after, self._now = pause_after, now
        self._counted = 0.0
        self._last: float | None = now()

    @property
    def seconds(self) -> float:
        """Seconds on task up to now."""
        return self._counted + self._since_last()

    def touch(self) -> None:
        """Note a sign of work: a stroke, a key, a look at another slice."""
        self._counted += self._since_last()
        self._last = self._now()

    def stop(self) -> None:
        """Stop until the next sign of work, for example because the window lost the focus."""
        self._counted += self._since_last()
        self._last = None

    def _since_last(self) -> float:
        if self._last is None:
            return 0.0
        passed = self._now() - self._last
        return passed if passed <= self._pause_after else 0.0
