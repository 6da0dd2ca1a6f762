"""The page of a pre-training: how its loss fell, and what the vectors were worth meanwhile."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from napari_activeft.reports.shell import PALETTE, card, key_table, number, page
from napari_activeft.reports.training_page import Rows, curves, listed, points_of
from napari_activeft.training.pretrain_files import RECORD
from napari_activeft.training.run_files import read_curve
from napari_activeft.training.whole_files import write_text

_OBJECTIVES = {
    "position": "positional contrast with masked image modelling",
    "distill": "self-distillation of multi-crop views",
    "masked": "masked image modelling",
}


def write_pretraining_page(folder: Path, out: Path) -> None:
    """Write the page of the encoder in a folder."""
    told = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    rows = read_curve(folder)
    body = card("What learnt", key_table(_facts(told)) + listed(told.get("notes", ())))
    body += card(
        "The loss",
        curves([("loss", points_of(rows, "loss"), PALETTE[0])]),
        "Of each step, averaged over neighbouring ones. It tells that learning goes on, not what "
        "the vectors are worth.",
    )
    body += card("What the vectors are worth", _worth(told, rows), _WORTH)
    write_text(out, page(f"Encoder {told['name']}", f"{told['network']}, pre-trained", body))


_WORTH = (
    "Same place: the share of slices whose nearest slice of another case lies at the same place of "
    "its stack, within a tenth of its length. Directions: the effective rank of the vectors. "
    "Where the spread falls to nothing or the directions to one, an encoder has collapsed."
)


def _facts(told: Mapping[str, Any]) -> list[tuple[str, str]]:
    before, after = told["before"] or {}, told["after"] or {}
    return [
        ("network", told["network"]),
        ("objective", _OBJECTIVES.get(told["objective"], told["objective"])),
        ("slices", f"{told['slices']} of {told['cases']} cases"),
        ("pictures", f"{told['side']} x {told['side']}, channels {told['channels']}"),
        ("steps", f"{told['steps']} in {told['seconds']:.0f} s"),
        ("same place found, before and after", _pair(before, after, "retrieval")),
        ("the same by chance", number(after.get("chance"))),
        ("directions, before and after", _pair(before, after, "effective_rank", 1)),
        ("spread, before and after", _pair(before, after, "spread")),
        ("hash of the weights", str(told.get("weight_hash", ""))[:12]),
    ]


def _pair(before: Mapping[str, Any], after: Mapping[str, Any], name: str, digits: int = 3) -> str:
    told = [one.get(name) for one in (before, after)]
    return ", ".join("-" if one is None else f"{one:.{digits}f}" for one in told)


def _worth(told: Mapping[str, Any], rows: Rows) -> str:
    start = [(0.0, told["before"])] if told["before"] else []

    def line(name: str) -> list[tuple[float, float]]:
        first = [(x, float(one[name])) for x, one in start if one.get(name) is not None]
        return first + points_of(rows, name)

    chance = [(x, float(told["after"]["chance"])) for x, _ in line("retrieval")] if (
        told["after"] and told["after"].get("chance") is not None
    ) else []  # fmt: skip
    shares = [
        ("same place found", line("retrieval"), PALETTE[0]),
        ("by chance", chance, PALETTE[7]),
        ("spread", line("spread"), PALETTE[4]),
    ]
    return curves(shares) + curves([("directions", line("effective_rank"), PALETTE[2])])
