"""Files of weights: read them without running what they hold, write them whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import re
import stat
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .pickle_reading import weights_key

# Under which key files keep their weights, the better ones first: training files of VMamba hold the
# averaged weights beside the last ones.
WRAPPERS = ("model_ema", "model", "state_dict", "network_weights", "model_state_dict")
PREFIXES = ("module.", "_orig_mod.")  # of wrapped models that were saved whole
BACKBONE = "backbone."
_LISTED = 3
_REFUSED_GLOBAL = re.compile(r"GLOBAL ([\w.]+)")
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
# What is in these modules starts programs or reaches into Python: no training writes it.
_ATTACKS = ("builtins", "ctypes", "importlib", "nt", "os", "posix", "runpy", "shutil", "socket",
            "subprocess", "sys")  # fmt: skip


class CheckpointError(ValueError):
    """A file of weights cannot be used: one sentence with what came, what is needed, what to do."""


def load_checkpoint(path: str | Path) -> dict[str, Tensor]:
    """Read the weights of a file, on the CPU, without running anything that it holds.

    Reads files of torch (bare weights, or under one of `WRAPPERS`) and of safetensors. Prefixes of
    wrapped models are taken off; of a detection or segmentation network the backbone is returned.

    Raises
    ------
    CheckpointError
        If the file is missing, empty, damaged, no checkpoint, would run code, or holds numbers that
        are not finite or of a type that no model has.
    """
    path = Path(path)
    return weights_in(_content(path), str(path))


def weights_in(content: object, named: str) -> dict[str, Tensor]:
    """Return the weights inside what a file holds or a caller has, checked.

    Parameters
    ----------
    content
        Weights by name, bare or wrapped.
    named
        The file or set of weights, for messages.

    Raises
    ------
    CheckpointError
        If these are no weights, or numbers are not finite or of a type that no model has.
    """
    state = _without_prefixes(_unwrapped(content, named))
    if any(key.startswith(BACKBONE) for key in state):
        state = {
            key.removeprefix(BACKBONE): weight
            for key, weight in state.items()
            if key.startswith(BACKBONE)
        }
    for key, weight in state.items():
        if weight.is_floating_point() and weight.dtype not in _FLOATS:
            raise CheckpointError(
                f"{named} holds {key} as {_type(weight)}, but weights are read as "
                f"{', '.join(str(kind).removeprefix('torch.') for kind in _FLOATS)}: save them "
                "again as one of these"
            )
        if weight.is_floating_point() and not bool(torch.isfinite(weight).all()):
            raise CheckpointError(
                f"{named} holds numbers that are not finite, in {key}: the training that wrote it "
                "diverged, take an earlier file"
            )
    return state


def weight_hash(state: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 over names, shapes, number types and bytes, whatever the file format."""
    digest = hashlib.sha256()
    for key in sorted(state):
        weight = state[key].detach().cpu().contiguous()
        head = json.dumps([key, list(weight.shape), str(weight.dtype)])
        digest.update(head.encode() + b"\n")
        numbers: NDArray[np.uint8] = weight.reshape(-1).view(torch.uint8).numpy()
        digest.update(numbers.data)
    return digest.hexdigest()


def save_safetensors(
    state: Mapping[str, Tensor], path: str | Path, metadata: dict[str, str] | None = None
) -> None:
    """Write weights as one safetensors file, whole or not at all, for whom the umask lets read."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    path = Path(path)
    # A copy: safetensors refuses tensors that share memory, as those mapped from one file may.
    own = {key: weight.detach().cpu().clone().contiguous() for key, weight in state.items()}
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.touch()
        mode = stat.S_IMODE(part.stat().st_mode)  # safetensors lets nobody else read
        save_file(own, part, metadata)
        part.chmod(mode)
        part.replace(path)
    except (SafetensorError, OSError) as refusal:
        raise CheckpointError(
            f"{path} cannot be written ({refusal}): make room or choose another folder"
        ) from refusal
    finally:
        part.unlink(missing_ok=True)


def _content(path: Path) -> object:
    """Return what a file holds, tensors and plain containers only."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(9)
    except OSError as refusal:
        raise CheckpointError(
            f"{path} cannot be read ({refusal.strerror}): give the path of a file of weights"
        ) from refusal
    if not size:
        raise CheckpointError(f"{path} is empty: fetch it again")
    if head[8:9] == b"{":
        return _safetensors(path)
    try:
        with warnings.catch_warnings():  # torch guesses aloud what a strange file may be
            warnings.simplefilter("ignore")
            # Only a whole zip file can be mapped; pickles are read.
            return torch.load(
                path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
            )
    except pickle.UnpicklingError as refusal:
        raise CheckpointError(_refused(path, refusal)) from refusal
    except Exception as refusal:  # a damaged pickle raises whatever its bytes happen to mean
        raise CheckpointError(_damaged(path)) from refusal


def _safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError) as refusal:
        raise CheckpointError(_damaged(path)) from refusal


def _damaged(path: Path) -> str:
    return f"{path} is damaged or cut off, or no file of weights: fetch it again"


def _refused(path: Path, refusal: pickle.UnpicklingError) -> str:
    """Say why a pickle was not read: it would run code, or it is none."""
    found = _REFUSED_GLOBAL.search(str(refusal))
    if found is None:
        return _damaged(path)
    told = (
        f"{path} holds an object of {found[1]} beside its weights, and reading that would run code "
        "of the file, which is not done: "
    )
    if found[1].partition(".")[0] in _ATTACKS:
        return f"{told}no training writes such an object, get the file from its authors again"
    key = weights_key(path, WRAPPERS)
    inner = ".state_dict()" if key is None else f"[{key!r}]"  # without one: a whole model
    return (
        f"{told}ask its authors for the weights alone; or, where you know {found[1]} to be "
        f"harmless, let Python read it with torch.serialization.add_safe_globals([{found[1]}]) "
        "before torch.load(FILE); or, on a computer that has nothing to lose, save the weights "
        f"alone with torch.save(torch.load(FILE, weights_only=False){inner}, NEW_FILE)"
    )


def _unwrapped(content: object, named: str) -> dict[str, Tensor]:
    """Return the weights inside what a file holds."""
    for _ in range(2):  # a trainer may wrap what a model had wrapped
        if isinstance(content, Mapping):
            inner = [content.get(key) for key in WRAPPERS]
            content = next((it for it in inner if isinstance(it, Mapping) and it), content)
    if not isinstance(content, Mapping) or not content:
        raise CheckpointError(
            f"{named} holds {type(content).__name__} and no weights by name: give a file that "
            f"keeps them bare or under one of {', '.join(WRAPPERS)}"
        )
    odd = [str(key) for key, value in content.items() if not _is_plain(value)]
    if odd:
        raise CheckpointError(
            f"{named} holds {few(odd)} where weights are needed: give a file that keeps them bare "
            f"or under one of {', '.join(WRAPPERS)}"
        )
    return {str(key): value for key, value in content.items()}


def _is_plain(value: object) -> bool:
    """Tell whether this is a tensor of numbers that lie one after another."""
    return (
        isinstance(value, Tensor)
        and value.layout == torch.strided
        and not value.is_meta
        and not (value.is_quantized or value.is_complex())
    )


def _without_prefixes(state: dict[str, Tensor]) -> dict[str, Tensor]:
    for prefix in PREFIXES:
        if all(key.startswith(prefix) for key in state):
            state = {key.removeprefix(prefix): weight for key, weight in state.items()}
    return state


def _type(weight: Tensor) -> str:
    return str(weight.dtype).removeprefix("torch.")


def few(names: list[str]) -> str:
    """Return the first names, and that there are more."""
    more = ", ..." if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more
