"""Reads volumes before they are asked for, so that the next slice is there at once."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Self

from napari_activeft.annotation_db import StoreError
from napari_activeft.errors import UserError
from napari_activeft.pool import VolumeCache


class ReadAhead:
    """Fills a cache of volumes in a thread of its own.

    What cannot be read is passed over: whoever opens it is told why then.

    Parameters
    ----------
    cache
        Of the project. It must hold two volumes to be of use: the one at work and the next.
    """

    def __init__(self, cache: VolumeCache) -> None:
        self._cache = cache
        self._expected: list[int] = []
        self._changed = threading.Condition()
        self._closing = self._busy = False
        self._thread = threading.Thread(target=self._run, name="reading ahead", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def expect(self, volume_ids: Sequence[int]) -> None:
        """Let these volumes be read, the first one first; what was expected before is dropped."""
        with self._changed:
            self._expected = [one for one in volume_ids if not self._cache.holds(one)]
            self._changed.notify_all()

    def wait(self, seconds: float = 10.0) -> bool:
        """Wait until all that was expected is read; False if it is not in that time."""
        with self._changed:
            return self._changed.wait_for(lambda: not (self._expected or self._busy), seconds)

    def close(self) -> None:
        """Drop what is expected and end the thread; a volume that is being read is read first."""
        with self._changed:
            self._closing, self._expected = True, []
            self._changed.notify_all()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._busy = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._closing or self._expected)
                if self._closing:
                    return
                volume_id, self._busy = self._expected.pop(0), True
            try:
                self._cache.volume(volume_id)
            except (UserError, StoreError, OSError):
                continue
