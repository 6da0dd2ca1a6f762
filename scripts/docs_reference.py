"""Pages of the documentation that are made from the code, as a hook of mkdocs.

The command line from its options, the settings from their classes, the database from its tables,
with a drawing of it. Nothing of it is kept in the repository, so nothing of it can be out of date.
"""

# ruff: noqa: ANN401 - typer, pydantic and SQLAlchemy hand out whatever they like
from __future__ import annotations

import inspect
from collections.abc import Iterator
from html import escape
from typing import Any, get_args, get_origin

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from napari_activeft.annotation_db import tables
from pydantic.fields import FieldInfo
from sqlalchemy import Table

from napari_activeft import settings as all_settings
from napari_activeft.cli import app
from napari_activeft.settings import Settings
from napari_activeft.settings.told import help_of

_NO_BREAK = "<style>td code { white-space: nowrap; }</style>\n"
_BOX, _LINE, _GAP, _ACROSS = 208, 17, 26, 4
"""Of the drawing: width of a table, height of a line, room between tables, tables in a row."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages."""
    for path, content in (
        ("reference/commands.md", commands()),
        ("reference/settings.md", settings()),
        ("reference/database.md", database()),
    ):
        files.append(File.generated(config, path, content=content))
    return files


# The command line


def commands() -> str:
    """Return the page of all commands and their options."""
    top = typer.main.get_command(app)
    parts = [
        _NO_BREAK,
        "# Commands\n\nMade from the program itself. [Every command in detail](../guide.md) says "
        "what they do and why; `--help` says the same as this page.\n",
    ]
    for name, command in _walk(top, "napari-activeft"):
        parts.append(f"## {name.removeprefix('napari-activeft ')}\n\n{_first(command.help)}\n")
        parts.append(f"```\n{_usage(name, command)}\n```\n")
        rows = [_option_row(one) for one in command.params if one.param_type_name == "option"]
        if rows:
            parts.append("| option | default | |\n|---|---|---|\n" + "\n".join(rows) + "\n")
    return "\n".join(parts)


def _walk(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    if hasattr(command, "commands"):
        for part, inner in command.commands.items():
            yield from _walk(inner, f"{name} {part}")
    else:
        yield name, command


def _usage(name: str, command: Any) -> str:
    words = [
        (one.metavar or one.name.upper())
        for one in command.params
        if one.param_type_name == "argument"
    ]
    return " ".join([name, "[OPTIONS]", *words])


def _option_row(option: Any) -> str:
    names = ", ".join(f"`{one}`" for one in (*option.opts, *option.secondary_opts))
    usual = option.default
    told = (
        usual is not None and usual is not False and usual not in ("", ()) and not callable(usual)
    )
    shown = f"`{usual}`" if told else ""
    return f"| {names} | {shown} | {_cell(option.help)} |"


def _first(text: str | None) -> str:
    return " ".join((text or "").split())


def _cell(text: str | None) -> str:
    return _first(text).replace("|", "\\|")


# The settings


def settings() -> str:
    """Return the page of all settings classes."""
    parts = [
        _NO_BREAK,
        "# Settings\n\nEvery default of the program, one class for each command, as Python takes "
        "them. The command line has the usual ones as options; `--set NAME=VALUE` of `pretrain`, "
        "`train` and `simulate` takes any of theirs.\n",
    ]
    for name in all_settings.__all__:
        one = getattr(all_settings, name)
        if inspect.isclass(one) and issubclass(one, Settings) and one is not Settings:
            parts.append(_class(one))
    return "\n".join(parts)


def _class(one: type[Settings]) -> str:
    told = help_of(one)
    lead = inspect.cleandoc(one.__doc__ or "").partition("\n")[0]
    rows = [
        f"| `{name}` | {_kind(field)} | {_usual(field)} | {_cell(told.get(name))} |"
        for name, field in one.model_fields.items()
    ]
    head = "| name | values | default | |\n|---|---|---|---|\n"
    return f"## {one.__name__}\n\n{_plain(lead)}\n\n{head}" + "\n".join(rows) + "\n"


def _plain(text: str) -> str:
    return text.replace("`", "")


def _usual(field: FieldInfo) -> str:
    if field.is_required():
        return "needed"
    usual = field.default
    return f"`{type(usual).__name__}`" if isinstance(usual, Settings) else f"`{usual}`"


def _kind(field: FieldInfo) -> str:
    return (_values(field.annotation) + _range(field)).replace("|", "\\|")


def _values(kind: Any) -> str:
    if get_origin(kind) is not None and "Literal" in str(get_origin(kind)):
        return ", ".join(f"`{one}`" for one in get_args(kind))
    parts = [one for one in get_args(kind) if one is not type(None)]
    if parts and get_origin(kind) is not tuple:
        return " or ".join(dict.fromkeys(_values(one) for one in parts if not _is_rule(one)))
    if get_origin(kind) is tuple:
        return "several"
    names = {"str": "text", "int": "whole number", "float": "number", "bool": "yes or no"}
    name = getattr(kind, "__name__", str(kind))
    return names.get(name, name.lower() if name == "Path" else name)


def _is_rule(one: Any) -> bool:
    return not (isinstance(one, type) or get_origin(one) is not None)


def _range(field: FieldInfo) -> str:
    words = {"ge": "from", "gt": "above", "le": "to", "lt": "below"}
    found = [
        f"{words[sign]} {getattr(rule, sign):g}"
        for rule in field.metadata
        for sign in words
        if getattr(rule, sign, None) is not None and isinstance(getattr(rule, sign), (int, float))
    ]
    return f", {' '.join(found)}" if found else ""


# The database


def database() -> str:
    """Return the page of the tables, with a drawing."""
    found = list(tables.Base.metadata.sorted_tables)
    parts = [
        "# The database\n\n`project.sqlite` is an ordinary SQLite file; any program can read it. "
        "It is made and changed by numbered migrations only, after a copy into `backups/`. Masks "
        "are only ever added.\n",
        drawing(found),
    ]
    told = {one.__tablename__: inspect.cleandoc(one.__doc__ or "") for one in _mapped()}
    for table in found:
        rows = [
            f"| `{column.name}` | {_type(column)} | {_refers(column)} |" for column in table.columns
        ]
        lead = told.get(table.name, "").partition("\n\n")[0]
        head = "| column | type | |\n|---|---|---|\n"
        parts.append(f"## {table.name}\n\n{_plain(lead)}\n\n{head}" + "\n".join(rows) + "\n")
    return "\n".join(parts)


def _mapped() -> Iterator[Any]:
    for mapper in tables.Base.registry.mappers:
        yield mapper.class_


def _type(column: Any) -> str:
    null = ", may be missing" if column.nullable else ""
    return f"{str(column.type).lower()}{null}"


def _refers(column: Any) -> str:
    if column.primary_key:
        return "names the row"
    return ", ".join(
        f"of [{key.column.table.name}](#{key.column.table.name})" for key in column.foreign_keys
    )


def drawing(found: list[Table]) -> str:
    """Draw tables as boxes, each below those that it refers to, with a line for each reference."""
    level: dict[str, int] = {}
    for table in found:  # in the order of their references
        above = [
            level[key.column.table.name]
            for key in table.foreign_keys
            if key.column.table.name in level and key.column.table is not table
        ]
        level[table.name] = max(above, default=-1) + 1
    rows: list[list[Table]] = []
    for depth in range(max(level.values()) + 1):
        here = [table for table in found if level[table.name] == depth]
        rows += [here[start : start + _ACROSS] for start in range(0, len(here), _ACROSS)]
    corner: dict[str, tuple[int, int]] = {}
    y = _GAP
    for number, row in enumerate(rows):
        # Later tables stand further right, so that fewer lines pass behind others.
        shift = min(max(0, number - 2), _ACROSS - len(row))
        for at, table in enumerate(row):
            corner[table.name] = (_GAP + (at + shift) * (_BOX + 2 * _GAP), y)
        y += max(_height(table) for table in row) + _GAP
    lines = [
        _reference(table, key.parent, key.column.table, corner)
        for table in found
        for key in table.foreign_keys
    ]
    boxes = [_box(table, *corner[table.name]) for table in found]
    width = _GAP + _ACROSS * (_BOX + 2 * _GAP)
    return (
        f'<svg viewBox="0 0 {width} {y}" role="img" aria-label="The tables of the database" '
        'style="width:100%;font-family:monospace;font-size:11px">'
        + "".join(boxes)
        + "".join(lines)
        + "</svg>\n"
    )


def _height(table: Table) -> int:
    return (len(table.columns) + 1) * _LINE + 8


def _box(table: Table, x: int, y: int) -> str:
    shown = [
        f'<text x="{x + 8}" y="{y + (at + 2) * _LINE - 1}" fill="currentColor" '
        f'opacity="{1 if column.primary_key or column.foreign_keys else 0.65}">'
        f"{escape(column.name)}</text>"
        for at, column in enumerate(table.columns)
    ]
    return (
        f'<rect x="{x}" y="{y}" width="{_BOX}" height="{_height(table)}" rx="4" '
        'fill="var(--md-default-bg-color)" stroke="currentColor"/>'
        f'<rect x="{x}" y="{y}" width="{_BOX}" height="{_LINE + 4}" rx="4" '
        'fill="var(--md-primary-fg-color)"/>'
        f'<text x="{x + 8}" y="{y + _LINE - 2}" fill="var(--md-primary-bg-color)" '
        f'font-weight="bold">{escape(table.name)}</text>' + "".join(shown)
    )


def _reference(table: Table, column: Any, to: Table, corner: dict[str, tuple[int, int]]) -> str:
    """Draw a line from a column to the table that it refers to."""
    if table is to:
        return ""
    (x, y), (over_x, over_y) = corner[table.name], corner[to.name]
    row = y + (list(table.columns).index(column) + 2) * _LINE - 5
    target = over_y + _LINE // 2 + 2
    if x == over_x:  # around the boxes between them
        start, end = x, over_x
        bend = min(_GAP, 8 + (row - target) // 24)
        middle = start - bend, end - bend
    else:
        leftwards = over_x < x
        start = x if leftwards else x + _BOX
        end = over_x + _BOX if leftwards else over_x
        pull = _GAP if leftwards else -_GAP
        middle = start - pull, end + pull
    return (
        f'<path d="M{start} {row}C{middle[0]} {row} {middle[1]} {target} {end} {target}" '
        'fill="none" stroke="var(--md-accent-fg-color)" stroke-width="1.3"/>'
        f'<circle cx="{end}" cy="{target}" r="3" fill="var(--md-accent-fg-color)"/>'
    )
