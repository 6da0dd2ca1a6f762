"""Classes as people write them: ``1=RV:#e69f00``, ``Myocardium``."""

from __future__ import annotations

import colorsys
import re
from collections.abc import Iterable, Sequence

from napari_activeft.annotation_db import ClassRecord
from napari_activeft.errors import UserError

# Okabe and Ito (2008): eight colours that colour-blind people tell apart; black is left out.
_OKABE_ITO = ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7")
_MAX_VALUE = 65534
_WRITTEN = re.compile(r"(?:(?P<value>\d+)=)?(?P<name>.+?)(?::(?P<colour>#[0-9a-fA-F]{6}))?")


def changed_classes(
    classes: Sequence[ClassRecord], written: Sequence[str], removed: Sequence[int] = ()
) -> list[ClassRecord]:
    """Return a class table after a user's changes.

    Parameters
    ----------
    classes
        The table so far.
    written
        ``VALUE=NAME:COLOUR``; without a value a class of that name is changed or the next free
        value taken, without a colour the old one stays or a distinct one is chosen.
    removed
        Values to leave out.

    Raises
    ------
    UserError
        If a class cannot be read, or two would bear one name.
    """
    table = {record.value: record for record in classes}
    for value in removed:
        if table.pop(value, None) is None:
            raise UserError(f"class {value} was to be removed, but there is none of that value")
    for text in written:
        record = _read(text, table)
        table[record.value] = record
    names = [record.name.casefold() for record in table.values()]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UserError(f"two classes would be called {twice!r}: give each a name of its own")
    return [table[value] for value in sorted(table)]


def _read(text: str, table: dict[int, ClassRecord]) -> ClassRecord:
    found = _WRITTEN.fullmatch(text.strip())
    name = found["name"].strip() if found else ""
    if not found or not name or set("=:#") & set(name):
        raise UserError(
            f"the class {text!r} cannot be read: write a name, VALUE=NAME or VALUE=NAME:#rrggbb"
        )
    same_name = (r.value for r in table.values() if r.name.casefold() == name.casefold())
    value = int(found["value"]) if found["value"] else next(same_name, max(table, default=0) + 1)
    if not 1 <= value <= _MAX_VALUE:
        raise UserError(
            f"class {name!r} was given the value {value}: choose 1 to {_MAX_VALUE}, 0 is background"
        )
    if name.casefold() in ("background", "ignore"):
        raise UserError(
            f"a class cannot be called {name!r}, which means something else to other tools: "
            "background is 0 and needs no class, unlabelled slices need none either"
        )
    before = table.get(value)
    colour = found["colour"] or (before.colour if before else _free_colour(value, table))
    return ClassRecord(value, name, colour.lower())


def _free_colour(value: int, table: dict[int, ClassRecord]) -> str:
    used = {record.colour for record in table.values()}
    free = [colour for colour in _OKABE_ITO if colour not in used]
    if free:
        return free[0]
    # Steps of the golden angle never come close to an earlier hue for long.
    red, green, blue = colorsys.hsv_to_rgb(value * 0.618034 % 1.0, 0.65, 0.9)
    return f"#{round(red * 255):02x}{round(green * 255):02x}{round(blue * 255):02x}"


def classes_for(values: Iterable[int], classes: Sequence[ClassRecord]) -> list[str]:
    """Return what to write to `changed_classes` so that every value has a class."""
    known = {record.value for record in classes}
    return [f"{value}=class {value}" for value in sorted(set(values) - known - {0})]
