"""What all settings share."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints


def _number_of_a_run(written: object) -> object:
    """Take ``run-001`` for 1."""
    if not isinstance(written, str):
        return written
    number = written.strip().removeprefix("run-")
    if not re.fullmatch(r"[0-9]+", number):
        raise ValueError("write a number, such as 1 or run-001")
    return int(number)


Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
FileValue = Annotated[int, Field(ge=0, le=65535)]
Plane = Literal["auto", "z", "y", "x"]
Precision = Literal["auto", "float32", "bfloat16"]
Scan = Literal["auto", "reference", "torch", "c", "triton", "mamba_ssm"]
MapBy = Literal["pca", "umap"]
ExportFormat = Literal["nifti", "nnunet", "coco", "bids"]
RunNumber = Annotated[int, BeforeValidator(_number_of_a_run), Field(ge=1)]


class Settings(BaseModel):
    """What all settings share: they do not change, and unknown names are refused."""

    # Built when they are first used: `--help` loads all of them and uses none.
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    def absolute(self) -> Self:
        """Return the same with absolute paths, for a program that runs in another folder."""
        known = {name: getattr(self, name) for name in type(self).model_fields}
        return self.model_copy(update={name: _absolute(value) for name, value in known.items()})


def _absolute(value: Any) -> Any:  # noqa: ANN401 - whatever a setting may be
    if isinstance(value, Path):
        return value.absolute()
    return tuple(map(_absolute, value)) if isinstance(value, tuple) else value
