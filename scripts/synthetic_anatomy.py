"""Synthetic anatomy: cross-sectional volumes of bodies that never were, for pre-training.

A *plan* is a body: an outline and organs (solid ones, hollow ones with a wall, tubes) at their
places. A *case* is the plan of one person: organs moved, scaled and bent. A *phase* is the case
once more, contracted and lit a little otherwise. A *modality* says how bright each tissue is, how
blurred and noisy the image. All is drawn from one seed.

Symbols: d slices of h x w pixels; p plans.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

SHAPE = (20, 128, 128)
_TISSUES = 8
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Organ:
    """One organ of a plan; places and radii in half sides of the volume, (z, y, x).

    Attributes
    ----------
    wall
        Share of the radius that is wall, 0 for a solid organ.
    tissue, inside
        Which tissue it is made of, and its hollow.
    grain
        Strength of its texture.
    """

    centre: Floats
    radii: Floats
    turn: Floats
    wall: float
    tissue: int
    inside: int
    grain: float
    power: float


@dataclass(frozen=True)
class Plan:
    """A body."""

    outline: Floats
    power: float
    organs: tuple[Organ, ...]


def make_plan(rng: np.random.Generator) -> Plan:
    """Draw a body with 4 to 14 organs."""
    outline = rng.uniform((1.2, 0.55, 0.6), (3.0, 0.95, 0.98)).astype(np.float32)
    organs = tuple(_organ(rng, outline) for _ in range(rng.integers(4, 15)))
    return Plan(outline, rng.uniform(1.8, 3.0), organs)


def _organ(rng: np.random.Generator, outline: Floats) -> Organ:
    radii = np.exp(rng.uniform(np.log(0.06), np.log(0.42), 3))
    if rng.random() < 0.3:  # a tube along the slices, or lying in one
        radii[rng.integers(3)] = rng.uniform(0.7, 2.0)
    q, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    return Organ(
        centre=(rng.uniform(-0.75, 0.75, 3) * np.array([1.2, *outline[1:]])).astype(np.float32),
        radii=radii.astype(np.float32),
        turn=q.astype(np.float32),
        wall=float(rng.uniform(0.15, 0.45)) if rng.random() < 0.35 else 0.0,
        tissue=int(rng.integers(1, _TISSUES)),
        inside=int(rng.integers(_TISSUES)),
        grain=float(rng.uniform(0, 0.12)),
        power=float(rng.uniform(1.6, 3.0)),
    )


def volumes(
    plan: Plan, rng: np.random.Generator, *, cases: int, phases: int
) -> Iterator[tuple[int, Floats]]:
    """Yield (case, volume (d, h, w) in 0..1) of people built by one plan, all in one modality."""
    bright = rng.uniform(0.05, 1.0, _TISSUES).astype(np.float32)
    bright[0] = rng.uniform(0, 0.25)
    blur, noise = rng.uniform(0.4, 1.4), rng.uniform(0.01, 0.07)
    for case in range(cases):
        person = _person(plan, rng)
        own = np.clip(bright * rng.normal(1, 0.06, _TISSUES), 0, 1.2).astype(np.float32)
        field = _field(rng, 0.16)
        for _ in range(phases):
            squeeze = rng.uniform(0.8, 1.1)
            yield case, _image(person, own, field + _field(rng, 0.03), squeeze, blur, noise, rng)


def _person(plan: Plan, rng: np.random.Generator) -> Plan:
    """Vary a plan: no two people are alike."""
    moved = tuple(
        Organ(
            one.centre + rng.normal(0, 0.04, 3).astype(np.float32),
            one.radii * np.exp(rng.normal(0, 0.13, 3)).astype(np.float32),
            one.turn,
            one.wall,
            one.tissue,
            one.inside,
            one.grain,
            one.power,
        )
        for one in plan.organs
        if rng.random() > 0.04
    )
    return Plan(plan.outline * np.exp(rng.normal(0, 0.06, 3)).astype(np.float32), plan.power, moved)


def _field(rng: np.random.Generator, strength: float) -> Floats:
    """Return a smooth displacement, (3, d, h, w), in half sides."""
    return _smooth(rng.normal(0, strength / 2, (3, 4, 6, 6)))


def _smooth(coarse: NDArray[np.float64]) -> Floats:
    """Interpolate a few points smoothly to the grid of a volume, along the last three axes."""
    made = coarse
    for axis, side in zip((-3, -2, -1), SHAPE, strict=True):
        points = coarse.shape[axis]
        at = np.linspace(0, points - 1, side)
        low = np.minimum(at.astype(int), points - 2)
        share = (at - low) ** 2 * (3 - 2 * (at - low))
        weights = np.zeros((side, points))
        weights[np.arange(side), low] = 1 - share
        weights[np.arange(side), low + 1] += share
        made = np.moveaxis(np.tensordot(made, weights, axes=(axis, 1)), -1, axis)
    return made.astype(np.float32)


def _image(
    person: Plan,
    bright: Floats,
    field: Floats,
    squeeze: float,
    blur: float,
    noise: float,
    rng: np.random.Generator,
) -> Floats:
    axes = [np.linspace(-1, 1, side, dtype=np.float32) for side in SHAPE]
    at = np.stack(np.meshgrid(*axes, indexing="ij")) + field
    body = _distance(at, np.zeros(3, np.float32), person.outline, np.eye(3), person.power) < 1
    skin = _distance(at, np.zeros(3, np.float32), person.outline * 0.93, np.eye(3), person.power)
    image = np.where(body, np.where(skin < 1, bright[1], bright[2]), 0).astype(np.float32)
    grain = gaussian_filter(rng.normal(size=SHAPE).astype(np.float32), rng.uniform(0.8, 2.5))
    grain /= grain.std()
    texture = np.zeros(SHAPE, np.float32)
    for organ in person.organs:
        radii = organ.radii * (squeeze if organ.wall else 1.0)
        r = _distance(at, organ.centre, radii, organ.turn, organ.power)
        inside = (r < 1) & body
        image[inside] = bright[organ.tissue]
        texture[inside] = organ.grain
        if organ.wall:
            hollow = (r < 1 - organ.wall) & body
            image[hollow], texture[hollow] = bright[organ.inside], 0.0
    image += texture * grain
    image = gaussian_filter(image, (0.3, blur, blur))
    shade = _smooth(rng.normal(0, 0.12, (2, 3, 3)))
    image *= 1 + shade
    image = np.hypot(  # as in a magnitude image
        image + rng.normal(0, noise, SHAPE), rng.normal(0, noise, SHAPE)
    )
    low, high = np.percentile(image, (0.5, 99.5))
    return np.clip((image - low) / max(high - low, 1e-6), 0, 1).astype(np.float32)


def _distance(at: Floats, centre: Floats, radii: Floats, turn: Floats, power: float) -> Floats:
    """Return where points lie in a superellipsoid: below 1 inside."""
    moved = np.tensordot(turn, at - centre[:, None, None, None], axes=1)
    scaled = np.abs(moved / radii[:, None, None, None]) ** power
    made: Floats = scaled.sum(axis=0) ** (1 / power)
    return made


def pool(
    seed: int, *, plans: int, cases: int, phases: int
) -> tuple[Floats, list[int], list[str], list[int]]:
    """Return slices (n, h, w) with the stack, the case and the position of each."""
    rng = np.random.default_rng(seed)
    slices, stacks, cases_of, positions = [], [], [], []
    count = 0
    for number in range(plans):
        plan = make_plan(rng)
        for case, volume in volumes(plan, rng, cases=cases, phases=phases):
            slices.append(volume)
            stacks += [count] * len(volume)
            cases_of += [f"plan{number:03d}-case{case:02d}"] * len(volume)
            positions += range(len(volume))
            count += 1
    return np.concatenate(slices), stacks, cases_of, positions
