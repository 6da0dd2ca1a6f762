"""The main job, once through, on the hippocampus volumes that the repository carries.

    python examples/demo.py FOLDER

makes a project in FOLDER, gives every slice a vector, lets the program choose 5 % of the slices,
answers one query by hand (its label map stands in for the annotator's hand) and the others from the
label maps, trains a small network on them and measures it on patients that it never saw. A second
round adds 5 % where that network is least sure, and is measured too; then all masks are exported.
Every step is a command that you could have typed.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import napari_activeft

IMAGES = Path(napari_activeft.__file__).parent / "sample_data" / "hippocampus"
STEPS = 400
SPENT: dict[str, float] = {}
"""Seconds by verb."""


def run(*arguments: str | Path | int, quietly: bool = False) -> str:
    """Run one command of the program, show it as one would type it, and return what it printed."""
    words = [str(argument) for argument in arguments]
    if not quietly:
        print(f"\n$ napari-activeft {shlex.join(words)}", flush=True)
    command = [sys.executable, "-m", "napari_activeft", *words]
    began = time.monotonic()
    speaking_utf8 = {**os.environ, "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(
        command, stdout=subprocess.PIPE, encoding="utf-8", env=speaking_utf8, check=False
    )
    SPENT[words[0]] = SPENT.get(words[0], 0.0) + time.monotonic() - began
    if not quietly:
        sys.stdout.reconfigure(errors="replace")
        print(done.stdout, end="", flush=True)
    if done.returncode:
        sys.exit(done.returncode)
    return done.stdout


def label_one_by_hand(project: Path) -> None:
    """Take the next query, make its mask as an annotator's tool would, and submit it."""
    import nibabel
    import numpy as np

    printed = run("next", "--annotator", "demo", "--out", project / "queries", "-p", project)
    ticket = Path(printed.split("ticket")[1].split("\n")[0].strip())
    query = json.loads(ticket.read_text())
    label_map = nibabel.load(IMAGES / "labels" / f"{Path(query['volume']).name}.nii.gz")
    # On disk (x, y, z); the program's axes are (z, y, x).
    mask = np.take(np.asarray(label_map.dataobj).T, query["position"], axis=query["axis"])
    np.save(project / "queries" / "mask.npy", mask.astype(np.uint8))
    answer = project / "queries" / "mask.npy"
    run("submit", answer, "--ticket", ticket, "--seconds", "42", "-p", project)


def learn_and_measure(project: Path, number: int, steps: int) -> str:
    """Train run ``number``, let it predict, and return its Dice on the test patients in words."""
    # Anterior and posterior are told apart by the direction, so slices are not mirrored.
    how = ("--turns", "none", "--augmentation", "light", "--batch", "8", "--monitor", "none")
    run("train", "--network", "vm_unet_conv_nano", "--steps", steps, *how, "-p", project)
    run("predict", "--run", number, "--split", "pool", "--split", "test", "-p", project)
    run("evaluate", "--run", number, "--truth", "labels", "-p", project)
    report = project / "reports" / f"evaluation-run-{number:03d}"
    measured = json.loads((report / "summary.json").read_text(encoding="utf-8"))["volumes"]
    dice = measured["all"]["dice"]
    return (
        f"Dice {dice['mean']:.3f} (95 % interval {dice['low']:.3f} to {dice['high']:.3f}) on "
        f"{dice['cases']} test patients; report: {report / 'index.html'}"
    )


def emptied(folder: Path) -> Path:
    """Return the folder, made or emptied; one that the demo did not make is left alone."""
    mark = folder / "made-by-the-demo"
    if folder.exists() and any(folder.iterdir()):
        if not mark.exists():
            sys.exit(f"{folder} is there already and was not made by the demo: choose another")
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    mark.touch()
    return folder


def main() -> None:
    """Go once through the whole job."""
    parser = argparse.ArgumentParser(description="The main job on the carried hippocampus volumes.")
    parser.add_argument("folder", type=Path, help="where to make the project; replaced if a demo")
    parser.add_argument("--steps", type=int, default=STEPS, help="of each training")
    asked = parser.parse_args()
    steps = asked.steps
    project = emptied(asked.folder) / "project"
    started = time.monotonic()
    run("init", project, "--name", "hippocampus")
    run("add", IMAGES, "--labels", "labels/*.nii.gz", "--test-share", "0.2", "-p", project)
    run("classes", "anterior", "posterior", "-p", project)
    run("embed", "-p", project)
    run("select", "--budget", "0.05", "-p", project)
    label_one_by_hand(project)
    run("import-labels", "--only-queried", "-p", project)
    first = learn_and_measure(project, 1, steps)
    run("select", "--budget", "0.05", "--uncertainty", "run-001", "-p", project)
    run("import-labels", "--only-queried", "-p", project)
    second = learn_and_measure(project, 2, steps)
    run("export", "--format", "nifti", "-p", project)
    run("export", "--format", "nnunet", "-p", project)
    run("info", "-p", project)
    run("doctor", "-p", project)
    print(f"\ndone in {time.monotonic() - started:.0f} s; label maps: {project}/exports/nifti")
    print(f"5 % of the slices labelled: {first}")
    print(f"10 %, the second half by uncertainty: {second}")
    print("seconds: " + ", ".join(f"{name} {spent:.0f}" for name, spent in SPENT.items()))
    report = project / "reports" / "evaluation-run-002" / "index.html"
    print(f"\nreport, to be opened in a browser: {report}")
    print(f"the viewer on this project: make gui PROJECT={shlex.quote(str(project))}")


if __name__ == "__main__":
    main()
