"""Results as JSON."""

from __future__ import annotations

import dataclasses
import json
from datetime import datetime


def to_json(result: object) -> str:
    """Return a result as JSON; paths and times become strings."""
    if not dataclasses.is_dataclass(result) or isinstance(result, type):
        raise TypeError(f"{type(result).__name__} is no result")
    # Letters escaped: a pipe may know fewer of them than a name holds.
    return json.dumps(dataclasses.asdict(result), indent=2, default=_text)


def _text(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
