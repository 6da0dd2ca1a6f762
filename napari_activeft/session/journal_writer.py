"""Puts strokes onto the disk in a thread of its own, so that whoever draws never waits.

What cannot be written (a full disk, a database that another program holds) stays in memory and is
tried again; the fault is told once, and once that it is over.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final, Self

from napari_activeft.annotation_db import Store

_AGAIN_SECONDS: Final = 0.5
# An hour of strokes while the disk is full is a few megabytes; written in parts that stay short.
_AT_ONCE: Final = 500

Payload = Callable[[], bytes]
"""Makes the bytes of a stroke in the writer's thread: a large one takes a while to pack."""
OnFault = Callable[[str | None], None]
"""Told in the writer's thread why strokes cannot be written, and None when they are again."""


class JournalWriter:
    """Writes the strokes of one annotator in the order in which they come.

    Parameters
    ----------
    path
        Of the project's database; the writer has a connection of its own.
    annotator
        Who draws.
    on_fault
        See `OnFault`.
    """

    def __init__(self, path: Path, annotator: str, on_fault: OnFault = lambda _: None) -> None:
        self._path, self._annotator, self._on_fault = path, annotator, on_fault
        self._waiting: deque[tuple[int, Payload]] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._fault: str | None = None
        self._thread = threading.Thread(target=self._run, name="stroke journal", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def unwritten(self) -> int:
        """Strokes that are not on the disk yet."""
        return len(self._waiting)

    @property
    def fault(self) -> str | None:
        """Why strokes cannot be written just now, None if they can."""
        return self._fault

    def put(self, slice_id: int, payload: Payload) -> None:
        """Let a stroke be written; returns at once."""
        with self._changed:
            self._waiting.append((slice_id, payload))
            self._changed.notify_all()

    def flush(self, seconds: float = 5.0) -> bool:
        """Wait until all strokes are on the disk; False if they are not in that time."""
        deadline = time.monotonic() + seconds
        with self._changed:
            while self._waiting:
                left = deadline - time.monotonic()
                if left <= 0 or not self._thread.is_alive():
                    return False
                self._changed.wait(left)
        return True

    def close(self, seconds: float = 5.0) -> bool:
        """Write what is left and end the thread; False if strokes could not be written."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(seconds)
        return not self._waiting

    def _run(self) -> None:
        store: Store | None = None
        try:
            while self._wait():
                try:
                    store = store or Store.open(self._path)
                    self._write(store)
                except Exception as fault:  # whatever it is, the strokes are kept and it is told
                    self._tell(str(fault))
                    if not self._rest():
                        return
                else:
                    self._tell(None)
        finally:
            if store is not None:
                store.close()

    def _wait(self) -> bool:
        """Wait for a stroke; False when none is left and none will come."""
        with self._changed:
            while not self._waiting and not self._closing:
                self._changed.wait()
            return bool(self._waiting)

    def _rest(self) -> bool:
        """Wait before the next try; False if the writer is closed, which is then given up."""
        with self._changed:
            if not self._closing:
                self._changed.wait_for(lambda: self._closing, _AGAIN_SECONDS)
            return not self._closing

    def _write(self, store: Store) -> None:
        """Write what waits, each slice's strokes in one transaction."""
        with self._changed:
            batch = list(itertools.islice(self._waiting, _AT_ONCE))
        store.see_in_place()
        for slice_id, strokes in itertools.groupby(batch, key=lambda one: one[0]):
            payloads = [payload() for _, payload in strokes]
            store.append_strokes(slice_id, self._annotator, payloads)
            with self._changed:
                for _ in payloads:
                    self._waiting.popleft()
                self._changed.notify_all()

    def _tell(self, fault: str | None) -> None:
        if fault != self._fault:
            self._fault = fault
            self._on_fault(fault)
