"""What happens when memory is short: a batch is worked on in smaller parts."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, TypeVar

from napari_activeft.devices import let_go, tried
from napari_activeft.errors import UserError

if TYPE_CHECKING:
    from lightning_fabric import Fabric

T = TypeVar("T")


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
        let_go(fabric.device)
        on_log(
            f"{before} slices at once do not fit into memory: each step goes on in parts of "
            f"{course.part}, over the same slices"
        )
