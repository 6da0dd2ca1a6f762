"""What happens when memory is short: a batch is worked on in smaller parts."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol, TypeVar

import torch

from napari_activeft.errors import UserError

if TYPE_CHECKING:
    from lightning_fabric import Fabric

T = TypeVar("T")
S = TypeVar("S")


class HasPart(Protocol):
    """What holds the number of slices that are worked on at once."""

    part: int


def halved_on_shortage(
    work: Callable[[int], T], course: HasPart, fabric: Fabric, on_log: Callable[[str], None]
) -> T:
    """Do some work in parts of ``course.part`` slices, which halves until memory holds them.

    Raises
    ------
    UserError
        If not even one slice fits, or many processes share the work, which cannot halve alone.
    """
    while True:
        done = tried(work, course.part)
        if done is not None:
            return done
        if course.part == 1 or fabric.world_size > 1:
            raise UserError(
                f"a batch of {course.part} does not fit into the memory of {fabric.device}: take a "
                "smaller batch with more accumulation, a smaller size or a smaller network"
            )
        before, course.part = course.part, -(-course.part // 2)
        if fabric.device.type == "cuda":
            torch.cuda.empty_cache()
        on_log(
            f"{before} slices at once do not fit into memory: each step goes on in parts of "
            f"{course.part}, over the same slices"
        )


def in_parts(
    work: Callable[[Sequence[S]], T], groups: Iterable[Sequence[S]], device: torch.device
) -> Iterator[T]:
    """Do some work on groups of items, or on parts of these which halve until memory holds them.

    Raises
    ------
    UserError
        If not even one item fits.
    """
    waiting, most = [items for items in groups if items], sys.maxsize
    while waiting:
        items = waiting.pop(0)
        part, rest = items[:most], items[most:]
        done = tried(lambda _, part=part: work(part), len(part))  # type: ignore[misc]
        if done is not None:
            yield done
        elif len(part) > 1:
            most, rest = -(-len(part) // 2), items
            if device.type == "cuda":
                torch.cuda.empty_cache()
        else:
            raise UserError(
                f"the memory of {device} does not hold one slice to be measured: take a smaller "
                "network or crops of a smaller size, or close other programs"
            )
        waiting[:0] = [rest] if rest else []


def tried(work: Callable[[int], T], part: int) -> T | None:
    """Return what the work gives, None where memory does not hold it.

    The exception is gone on return, and with it the tensors that its frames hold.
    """
    try:
        return work(part)
    except (torch.OutOfMemoryError, MemoryError):
        return None
    except RuntimeError as refusal:
        if "allocate memory" not in str(refusal):
            raise
        return None
