"""Which case (examination) a volume belongs to, and on which side of the split a case stands.

A case never changes sides: volumes of one patient on both sides make every figure a lie.
"""

from __future__ import annotations

import csv
import hashlib
import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from napari_activeft.errors import UserError
from napari_activeft.image_names import stem_of

CaseRule = Callable[[str], str | None]
"""Maps a volume's name (path below the added folder) to its case, None where the rule is silent."""

SPLITS = ("pool", "val", "test")


def case_rule(text: str, names: Sequence[str]) -> tuple[CaseRule, str]:
    """Return the rule that ``text`` describes, and the rule in words.

    Parameters
    ----------
    text
        ``"auto"``; ``"folder"`` (the folder directly below the one that was added); ``"file"``
        (the file's name); ``"FILE.csv:COLUMN"`` (a column of a table that lists the files); or a
        regular expression with one group, searched in the path below the added folder.
    names
        Names of all volumes that the rule will be asked for. ``"auto"`` is ``"folder"`` where
        they lie in several folders, else ``"file"``.

    Raises
    ------
    UserError
        If the text is none of these, or the table cannot be used.
    """
    if text == "auto":
        folders = {name.split("/")[0] for name in names if "/" in name}
        loose = any("/" not in name for name in names)
        text = "folder" if len(folders) > 1 and not loose else "file"
    if text == "folder":
        return (lambda name: name.split("/")[0] if "/" in name else None), "one case per folder"
    if text == "file":
        return (lambda name: name), "one case per volume"
    table, _, column = text.rpartition(":")
    if table.lower().endswith(".csv"):
        return _table_rule(Path(table), column), f"column {column} of {Path(table).name}"
    return _pattern_rule(text), f"pattern {text}"


def _pattern_rule(text: str) -> CaseRule:
    try:
        pattern = re.compile(text)
    except re.error as refusal:
        raise UserError(
            f"the case pattern {text!r} is no regular expression ({refusal}): write for example "
            r"'(patient\d+)', or folder, file, auto or FILE.csv:COLUMN"
        ) from refusal
    if pattern.groups != 1:
        raise UserError(
            f"the case pattern {text!r} has {pattern.groups} groups and needs one that holds the "
            r"case: write for example '(patient\d+)', or folder, file, auto or FILE.csv:COLUMN"
        )

    def rule(name: str) -> str | None:
        found = pattern.search(name)
        return found[1] if found else None

    return rule


def _table_rule(path: Path, column: str) -> CaseRule:
    rows = read_table(path)
    if not rows:
        raise UserError(f"the table {path} lists no file: write one line per file below its header")
    if column not in rows[0]:
        raise UserError(
            f"{path} has no column {column!r}, it has {', '.join(rows[0])}: name one of them"
        )
    cases: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        for other, value in row.items():
            if other != column and value:
                # Whatever looks like the file counts: its path or its name, without suffix.
                place = Path(value)
                for key in {(place.parent / stem_of(place)).as_posix(), stem_of(place)}:
                    cases[key].add(row[column])

    def rule(name: str) -> str | None:
        # A name that several cases bear tells nothing; the whole path goes before the name.
        for key in (name, PurePosixPath(name).name):
            if len(cases.get(key, ())) == 1:
                return next(iter(cases[key])) or None
        return None

    return rule


def read_table(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV file by its header; comma, semicolon or tab between columns.

    Raises
    ------
    UserError
        If the file cannot be read or has no header.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as refusal:
        cause = getattr(refusal, "strerror", None) or "it is not UTF-8 text"
        raise UserError(f"the table {path} cannot be read ({cause}): check the path") from refusal
    header = text.partition("\n")[0]
    separator = max(",;\t", key=header.count)
    reader = csv.DictReader(text.splitlines(), delimiter=separator)
    if not reader.fieldnames:
        raise UserError(f"the table {path} is empty: write a header and one line per case")
    return [{k.strip(): (v or "").strip() for k, v in row.items() if k} for row in reader]


def read_splits(path: Path) -> dict[str, str]:
    """Return the split of each case from a table with the columns ``case`` and ``split``.

    Raises
    ------
    UserError
        If a column is missing, a split is none of pool, val and test, or a case stands in two.
    """
    splits: dict[str, str] = {}
    for number, row in enumerate(read_table(path), start=2):
        if "case" not in row or "split" not in row:
            raise UserError(
                f"{path} has the columns {', '.join(row)}, and case and split are needed: rename "
                "its header"
            )
        case, split = row["case"], row["split"]
        if split not in SPLITS:
            raise UserError(
                f"{path} line {number} puts case {case} into {split!r}: write pool, val or test"
            )
        if splits.setdefault(case, split) != split:
            raise UserError(
                f"{path} line {number} puts case {case} into {split}, an earlier line into "
                f"{splits[case]}: keep one of them"
            )
    return splits


def drawn_split(case: str, *, val_share: float, test_share: float, seed: int) -> str:
    """Return the split of a case by a seeded hash of its name.

    The draw depends on nothing else, so a case added later lands where it would have landed before.

    Parameters
    ----------
    case
        Name of the case.
    val_share, test_share
        Shares of all cases, 0 to 1, together at most 1.
    seed
        Another seed draws other cases.
    """
    digest = hashlib.sha256(f"{seed}:{case}".encode()).digest()
    draw = int.from_bytes(digest[:8], "big") / 2**64
    if draw < test_share:
        return "test"
    return "val" if draw < test_share + val_share else "pool"


@dataclass(frozen=True)
class SplitRule:
    """Where new cases go: as a table says, or by a seeded draw.

    Attributes
    ----------
    table
        Split by case, see `read_splits`; None to draw.
    val_share, test_share, seed
        See `drawn_split`.
    """

    table: Mapping[str, str] | None = None
    val_share: float = 0.0
    test_share: float = 0.0
    seed: int = 0

    def split_of(self, case: str) -> str | None:
        """Return the split of a case that is new, None if the table does not list it."""
        if self.table is not None:
            return self.table.get(case)
        return drawn_split(
            case, val_share=self.val_share, test_share=self.test_share, seed=self.seed
        )
