"""Runs what would keep the window waiting in a thread, and brings the result back."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Generic, TypeVar

from qtpy.QtCore import QObject, Signal

from napari_activeft.annotation_db import StoreError
from napari_activeft.errors import UserError
from napari_activeft.widgets import notices

EXPECTED = (UserError, StoreError, OSError)
"""What a user can mend: told in a sentence."""
Result = TypeVar("Result")


class _Answer(Generic[Result]):
    """What a function gave, and who wants to know."""

    def __init__(
        self,
        future: Future[Result],
        then: Callable[[Result], object] | None,
        failed: Callable[[Exception], object] | None,
    ) -> None:
        self.future, self.then, self.failed = future, then, failed


class Background(QObject):
    """A thread that runs one function after another.

    Results are handed to the thread of the window. Whoever asked and is gone by then is not told.
    """

    _answered = Signal(object)

    def __init__(self, name: str, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._pool: ThreadPoolExecutor | None = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._running = 0
        self._answered.connect(self._hand_over)

    @property
    def idle(self) -> bool:
        """Whether nothing runs or waits."""
        return not self._running

    def run(
        self,
        act: Callable[[], Result],
        then: Callable[[Result], object] | None = None,
        failed: Callable[[Exception], object] | None = None,
    ) -> None:
        """Let a function run after those before it.

        Parameters
        ----------
        act
            Runs in the thread; it must not touch the window.
        then
            Gets the result, in the window's thread.
        failed
            Gets an error that a user can mend, instead of a notice; any other error rises in the
            window's thread.
        """
        if self._pool is None:
            return
        self._running += 1
        future = self._pool.submit(act)
        answer = _Answer(future, then, failed)
        future.add_done_callback(lambda _: self._tell(answer))

    def close(self, *, wait_for_all: bool = False) -> None:
        """Let what runs come to its end, and perhaps what waits too, and end the thread."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=True, cancel_futures=not wait_for_all)

    def _tell(self, answer: _Answer[Any]) -> None:
        """Cross over to the window's thread."""
        try:
            self._answered.emit(answer)
        except RuntimeError:  # the window is gone
            return

    def _hand_over(self, answer: _Answer[Any]) -> None:
        self._running -= 1
        if self._pool is None or answer.future.cancelled():
            return
        error = answer.future.exception()
        if error is None:
            if answer.then is not None:
                answer.then(answer.future.result())
        elif not isinstance(error, EXPECTED):
            raise error
        elif answer.failed is not None:
            answer.failed(error)
        else:
            notices.error(str(error))
