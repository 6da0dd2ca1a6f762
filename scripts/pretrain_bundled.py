"""Make the encoder that comes with the program, `vmamba_micro_medical`, from free images.

    python scripts/pretrain_bundled.py FOLDER [--data ../shared/data]

writes the images into FOLDER, makes a project of them and runs the program's own `pretrain`: first
by masked prediction, then from there by positional contrast. Stopped and started again it goes on.

The images: synthetic anatomy (`synthetic_anatomy.py`, made here), nuclei of the Data Science Bowl
2018 (CC0), ISIC 2017 skin lesions (CC0), and the two small volumes of TotalSegmentator's tests
(Apache-2.0), each along three directions. --install copies the result and its record into the
package.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
from napari_activeft.models.checkpoints import feature_hash, load_checkpoint, save_safetensors
from PIL import Image
from synthetic_anatomy import make_plan, volumes

HERE = Path(__file__).resolve().parent
PACKAGE = HERE.parent / "napari_activeft" / "bundled_encoder"
NAME = "vmamba_micro_medical"
PLANS, CASES, PHASES = 40, 8, 2
SEED = 20261121
FIRST = ("--objective", "masked", "--steps", "6000", "--set", "inverted=0.3")
SECOND = ("--objective", "position", "--steps", "2000")
BOTH = (
    "--encoder", "vmamba_micro", "--view", "64", "--set", "size=96", "--batch", "32",
    "--turns", "flips", "--set", "masked=0.3", "--set", "check_every=200",
)  # fmt: skip


def write_images(folder: Path, data: Path) -> None:
    """Write all images, in grey."""
    rng = np.random.default_rng(SEED)
    for number in range(PLANS):
        plan = make_plan(rng)
        for at, (case, volume) in enumerate(volumes(plan, rng, cases=CASES, phases=PHASES)):
            place = folder / f"plan{number:02d}-case{case}"
            place.mkdir(parents=True, exist_ok=True)
            # On disk (x, y, z); slices are farther apart than pixels, which says where they lie.
            voxels = np.rint(volume.T * 255).astype(np.uint8)
            image = nibabel.Nifti1Image(voxels, np.diag([1.0, 1.0, 5.0, 1.0]))
            nibabel.save(image, place / f"phase{at % PHASES}.nii.gz")
    pictures = folder / "pictures"
    pictures.mkdir(exist_ok=True)
    for found in ("dsb2018_nuclei/images/*.png", "rgb_samples/isic2017/images/*"):
        for path in sorted(data.glob(found)):
            Image.open(path).convert("L").save(pictures / f"{path.stem}.png")
    for path in sorted((data / "totalseg_fixture").glob("example_[cm][tr]_sm.nii.gz")):
        voxels = np.asarray(nibabel.load(path).dataobj, dtype=np.float32)
        place = folder / path.name.partition(".")[0]
        place.mkdir(exist_ok=True)
        for axis in range(3):
            turned = nibabel.Nifti1Image(np.moveaxis(voxels, axis, 2), np.diag([1, 1, 5, 1]))
            nibabel.save(turned, place / f"along{axis}.nii.gz")


def run(*arguments: str | Path | int) -> None:
    """Run one command of the program."""
    words = [str(argument) for argument in arguments]
    print("$ napari-activeft", *words, flush=True)
    subprocess.run([sys.executable, "-m", "napari_activeft", *words], check=True)


def learn(project: Path, name: str, *how: str) -> Path:
    """Pre-train one stage, or go on with it; return its folder."""
    folder = project / "encoders" / name
    record = folder / "encoder.json"
    if record.is_file() and json.loads(record.read_text())["over"]:
        return folder
    if record.is_file():
        run("pretrain", "--resume", "--threads", THREADS, "-p", project)
    else:
        run("pretrain", "--name", name, *BOTH, *how, "--threads", THREADS, "-p", project)
    return folder


def install(folder: Path) -> None:
    """Put weights, in half precision to spare room, and record into the package."""
    PACKAGE.mkdir(exist_ok=True)
    weights = load_checkpoint(folder / "weights.safetensors")
    halves = {name: one.half() for name, one in weights.items() if ".head." not in name}
    save_safetensors(halves, PACKAGE / "weights.safetensors", {"name": NAME})
    told = json.loads((folder / "encoder.json").read_text())
    told.pop("notes")  # they and the start name a path of this machine
    for name in ("name", "threads"):  # how it was run, not what it is
        told["settings"].pop(name)
    told["settings"]["start"] = "the first stage, masked prediction from random weights"
    told["licence"] = "BSD-3-Clause"
    told["parameters"] = sum(one.numel() for one in halves.values())
    told |= {"name": NAME, "weight_hash": feature_hash({k: v.float() for k, v in halves.items()})}
    (PACKAGE / "encoder.json").write_text(json.dumps(told, indent=1) + "\n")


def main() -> None:
    """Make the images, learn in two stages, and perhaps install the result."""
    global THREADS
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", type=Path, default=HERE.parents[1] / "shared" / "data")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--install", action="store_true", help="copy the result into the package")
    asked = parser.parse_args()
    THREADS = asked.threads
    images, project = asked.folder / "images", asked.folder / "project"
    if not (asked.folder / "images-are-written").exists():
        write_images(images, asked.data)
        (asked.folder / "images-are-written").touch()
    if not project.exists():
        run("init", project)
    run("add", images, "--case", "folder", "-p", project)  # takes what is new
    first = learn(project, "first", *FIRST, "--start", "random")
    weights = first / "weights.safetensors"
    second = learn(project, "second", *SECOND, "--start", f"encoder:{weights}")
    if asked.install:
        install(second)


THREADS = 0

if __name__ == "__main__":
    main()
