"""Test-time augmentation: the ways in which a slice is turned before a network sees it.

Symbols: a tensor (..., h, w) is mirrored along w or not, and then turned by quarter turns.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor

Augmentation = Literal["none", "flips", "full"]


class Turn(NamedTuple):
    """One way to lay a slice: mirrored first, then turned by so many quarters to the left."""

    mirrored: bool
    quarters: int

    def lay(self, x: Tensor) -> Tensor:
        """Lay (..., h, w) in this way; an odd number of quarters swaps h and w."""
        import torch

        return torch.rot90(x.flip(-1) if self.mirrored else x, self.quarters, (-2, -1))

    def undo(self, x: Tensor) -> Tensor:
        """Lay back what was laid in this way."""
        import torch

        turned = torch.rot90(x, -self.quarters, (-2, -1))
        return turned.flip(-1) if self.mirrored else turned

    def size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return height and width of what has this height and width before."""
        return (size[1], size[0]) if self.quarters % 2 else size


TURNS: dict[Augmentation, tuple[Turn, ...]] = {
    "none": (Turn(False, 0),),
    # As it is, mirrored left to right, top to bottom, and both.
    "flips": (Turn(False, 0), Turn(True, 0), Turn(True, 2), Turn(False, 2)),
    "full": tuple(Turn(mirrored, quarters) for mirrored in (False, True) for quarters in range(4)),
}
"""The ways of each kind of test-time augmentation: 1, 4 and 8 of them."""
