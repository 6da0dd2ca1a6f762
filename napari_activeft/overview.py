"""What a project holds, and with what program: the verb `info`."""

from __future__ import annotations

from collections import Counter
from typing import Any

from napari_activeft import program
from napari_activeft.annotation_db import Store
from napari_activeft.jobs import describe_all
from napari_activeft.project import Project
from napari_activeft.results import InfoResult
from napari_activeft.trained_runs import end_dead_runs
from napari_activeft.vectors import damaged_embeddings, embeddings


def overview(project: Project | None) -> InfoResult:
    """Say what a project holds and what the program is; without a project only the latter."""
    if project is None:
        here = program.parts(), program.scans()
        return InfoResult(None, None, {}, [], [], {}, 0, [], [], [], [], [], *here)
    store = project.store
    end_dead_runs(project)
    return InfoResult(
        folder=project.folder,
        name=store.project().name,
        contents=dict(store.counts()),
        classes=store.classes(),
        rounds=_round_summaries(store),
        queries=store.query_counts(),
        accepted=len(store.accepted()),
        annotators=store.annotator_totals(),
        embeddings=[
            {
                "encoder": one.encoder,
                "weight_hash": one.weight_hash,
                "random_weights": one.random_weights,
                "size": one.size,
                "side": one.side,
                "slices": one.slices,
                "used_at": one.used_at,
            }
            for one in embeddings(project)
        ],
        problems=damaged_embeddings(project),
        runs=_run_summaries(store),
        jobs=describe_all(project).jobs,
        program=program.parts(),
        scans=program.scans(),
    )


def _run_summaries(store: Store) -> list[dict[str, Any]]:
    return [
        {
            "run": record.run_id,
            "network": record.settings.get("network"),
            "state": record.state,
            "monitor": record.metrics.get("monitor"),
            "score": record.metrics.get("score"),
            "slices": record.metrics.get("slices"),
            "reason": record.metrics.get("reason") or None,
            "round": record.round_number,
            "created_at": record.created_at,
        }
        for record in reversed(store.runs())
    ]


def _round_summaries(store: Store) -> list[dict[str, Any]]:
    states: dict[int, Counter[str]] = {}
    for query in store.queries():
        states.setdefault(query.round_number, Counter())[query.state] += 1
    return [
        {
            "round": record.number,
            "selector": record.selector,
            "seed": record.seed,
            "queries": record.budget,
            "states": dict(states.get(record.number, {})),
            "created_at": record.created_at,
        }
        for record in store.rounds()
    ]
