"""The figures of a selection as a table: what each is called, its value, what it says."""

from __future__ import annotations

from napari_activeft.reports.shell import card, empty, number, share, table, text
from napari_activeft.selection.coverage import CoverageFigures

SO_FAR = "this round and all slices asked before"


def figures_card(figures: CoverageFigures | None, rw1_beside: float | None, labelled: int) -> str:
    """Return the section with all figures.

    Parameters
    ----------
    rw1_beside
        W1 of labelled slices and picks over that of labelled slices and random draws; None where
        nothing was labelled.
    labelled
        Slices asked before.
    """
    heading = "The figures"
    if figures is None:
        return card(heading, empty("Without features, coverage of the pool is not measured."))
    sampled = (
        f" W1 was measured on {figures.measured_rows} of {figures.pool} slices, drawn at random."
    )
    lead = "Measured on the encoder's features; no label was looked at."
    if labelled:
        lead += f" Of {figures.picks} slices: {SO_FAR}."
    return card(
        heading,
        table(
            ("Figure", "Value", "What it says"),
            [
                (text(name), value, f'<span class="soft">{text(why)}</span>')
                for name, value, why in _rows(figures, rw1_beside, labelled)
                if value != number(None)  # such as cases outside of the pool, where there are none
            ],
            numbers=(1,),
        ),
        lead + (sampled if figures.measured_rows < figures.pool else ""),
    )


def _rows(
    figures: CoverageFigures, rw1_beside: float | None, labelled: int
) -> list[tuple[str, str, str]]:
    """Return name, value and meaning of all figures."""
    first, *others = _closeness(figures)
    beside = (
        "The same, slices asked before kept",
        number(rw1_beside),
        f"Divided by the same for the {labelled} slices asked before with random ones in place of "
        "this round's: what this round's choice gains over chance; lower is better.",
    )
    return [first, beside, *others, *_spread(figures)]


def _closeness(f: CoverageFigures) -> list[tuple[str, str, str]]:
    """Return name, value and meaning of the figures that measure distances."""
    return [
        (
            "Distance to the pool against random (rW1)",
            number(f.rw1),
            f"How far the pool is from the picks, divided by the same for {f.draws} random draws: "
            "1 is as good as random, lower is better.",
        ),
        (
            "The same for cases outside of the pool",
            number(f.rw1_out),
            "Whether the picks also stand for patients who could not be chosen; lower is better.",
        ),
        (
            "Mean distance to the nearest pick",
            number(f.nearest_mean),
            "0 is a slice that looks the same to the encoder, 1.41 one that has nothing in common.",
        ),
        (
            "95 % of slices are within",
            number(f.radius_95),
            "Only one slice in twenty is farther than this from every pick.",
        ),
        ("The worst slice is at", number(f.radius_max), "The slice least like any pick."),
        (
            "Energy distance",
            number(f.energy, 4),
            "How differently pool and picks are spread; 0 is the same.",
        ),
    ]


def _spread(f: CoverageFigures) -> list[tuple[str, str, str]]:
    """Return name, value and meaning of the figures that count."""
    return [
        (
            "Cases with a pick",
            f"{f.cases} of {f.pool_cases}",
            "Patients of whom at least one slice will be annotated.",
        ),
        ("Volumes with a pick", f"{f.volumes} of {f.pool_volumes}", "The same, counted by volume."),
        ("Most picks in one volume", str(f.most_in_volume), "A high number means repeated work."),
        (
            "Neighbouring picks",
            share(f.adjacent_share),
            "Of picks that follow each other in a volume, the share that touch: they look alike.",
        ),
        ("Nearly empty picks", share(f.empty_share), "Slices that show little or nothing."),
    ]
