"""Copy the facts of published models from the golden fixtures into models/published.json.

Run as ``python scripts/copy_published_facts.py [FOLDER_OF_FIXTURES]`` when the fixtures change.
Shapes are kept as a tree, ``{"layers": {"0": {...}}}``: shorter than flat names with dots.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[1]
FIXTURES = REPOSITORY.parent / "shared" / "golden"
TARGET = REPOSITORY / "models" / "published.json"
PREFIXES = ("vmamba_", "vmunet", "seed_perfect_vmunet")
COPIED = ("repository", "commit", "licence", "config")
RENAMES = "renames_in_the_current_repository"
V0_BASE: dict[str, Any] = {
    # No fixture holds it; models.md has these facts.
    "checkpoint": {
        "file": "vssmbase_dp06_ckpt_epoch_241.pth",
        "url": "https://github.com/MzeroMiko/VMamba/releases/download/%23v0cls/"
        "vssmbase_dp06_ckpt_epoch_241.pth",
        "wrapper_key": "model",
        "imagenet1k_top1": 83.7,
        "stated_parameters": "76M",
        "stated_flops": "18.0G",
    },
    "n_parameters": 76254056,
    "dims": [128, 256, 512, 1024],
}


def main() -> None:
    """Read the fixtures, write the facts."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else FIXTURES
    models = {}
    for file in sorted(folder.glob("*.keys.json")):
        if file.name.startswith(PREFIXES):
            models[file.name.removesuffix(".keys.json")] = facts(json.loads(file.read_bytes()))
    models["vmamba_v0_base"] = v0_base(models["vmamba_v0_small"])
    lines = [f"{json.dumps(name)}:{json.dumps(fact, separators=(',', ':'))}" for name, fact in
             sorted(models.items())]  # fmt: skip
    TARGET.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def facts(fixture: dict[str, Any]) -> dict[str, Any]:
    """Return what is kept of a fixture."""
    kept = {key: fixture[key] for key in COPIED}
    kept["parameters"] = fixture["n_parameters"]
    kept["checkpoint"] = fixture["checkpoint"]
    if RENAMES in fixture:
        kept["renames"] = fixture[RENAMES]
    kept["shapes"] = tree({key: shape for key, shape, *_ in fixture["keys"]})
    return kept


def tree(shapes: dict[str, list[int]]) -> dict[str, Any]:
    """Turn names with dots into nested names."""
    root: dict[str, Any] = {}
    for key, shape in shapes.items():
        *path, leaf = key.split(".")
        node = root
        for part in path:
            node = node.setdefault(part, {})
        node[leaf] = shape
    return root


def v0_base(small: dict[str, Any]) -> dict[str, Any]:
    """Return the facts of the base size: those of the small one but for the widths."""
    base = small | {"checkpoint": V0_BASE["checkpoint"]}
    base["config"] = small["config"] | {"dims": V0_BASE["dims"], "drop_path_rate": 0.6}
    base["parameters"] = V0_BASE["n_parameters"]
    del base["shapes"]  # models/weight_names.py takes them from the model
    return base


if __name__ == "__main__":
    main()
