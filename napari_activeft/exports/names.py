"""Names that every file system, nnU-Net and BIDS accept, made from names people gave.

A name that nothing else collides with is only cleaned; where two come out the same, both get a
digest of their original name, so that the result depends neither on the order nor on the platform.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable

# Room for a digest, a channel and a suffix within the 143 bytes that encrypted file systems allow.
_LONGEST = 80
_DIGEST = 8
# NFKD leaves these letters whole.
_LETTERS = str.maketrans(
    {"ß": "ss", "ø": "o", "Ø": "O", "æ": "ae", "Æ": "AE", "œ": "oe", "Œ": "OE", "ł": "l", "Ł": "L"}
)
# Windows takes these for devices, whatever the suffix.
_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)


def safe_file_names(names: Iterable[str]) -> dict[str, str]:
    """Map each name to one of ``A-Z a-z 0-9 . _ -``, unique also where letter case is ignored.

    Parameters
    ----------
    names
        Different names; they may hold spaces, slashes and any letter.

    Examples
    --------
    >>> safe_file_names(["Müller/knee 1"])
    {'Müller/knee 1': 'Muller_knee_1'}
    """
    return _unique(names, lambda name: _clean(name, r"[^A-Za-z0-9.-]+", "_") or "volume", "_")


def safe_identifiers(names: Iterable[str]) -> dict[str, str]:
    """Map each name to an nnU-Net case identifier: as `safe_file_names`, without dots.

    nnU-Net cuts file names at fixed endings, and takes ``<identifier>_seg`` for a label map.
    """

    def clean(name: str) -> str:
        cleaned = _clean(name, r"[^A-Za-z0-9-]+", "_") or "volume"
        return f"{cleaned}_v" if cleaned.lower().endswith("_seg") else cleaned

    return _unique(names, clean, "_")


def alphanumeric(names: Iterable[str], *, empty: str) -> dict[str, str]:
    """Map each name to one of letters and digits only, as BIDS wants its labels.

    Parameters
    ----------
    names
        Different names.
    empty
        What a name becomes that has none of these, such as "case".
    """
    return _unique(names, lambda name: _clean(name, r"[^A-Za-z0-9]+", "") or empty, "")


def _clean(name: str, forbidden: str, joiner: str) -> str:
    """Return a name in ASCII with every run of forbidden characters replaced, 80 at most."""
    plain = unicodedata.normalize("NFKD", name.translate(_LETTERS))
    # An accent goes without a trace, a letter that has no ASCII form leaves the joiner.
    plain = "".join(c for c in plain if not unicodedata.combining(c))
    cleaned = re.sub(forbidden, joiner, plain)[:_LONGEST].strip("._-")
    return f"v{joiner}{cleaned}" if _DEVICES.match(cleaned) else cleaned


def _unique(names: Iterable[str], clean: Callable[[str], str], joiner: str) -> dict[str, str]:
    """Clean names and add a digest to those that come out the same without letter case."""
    cleaned = {name: clean(name) for name in names}
    often = Counter(short.casefold() for short in cleaned.values())

    def told_apart(everywhere: bool) -> dict[str, str]:
        return {
            name: f"{short}{joiner}{_digest(name)}"
            if everywhere or often[short.casefold()] > 1
            else short
            for name, short in cleaned.items()
        }

    unique = told_apart(everywhere=False)
    # Somebody may have named a volume as we name one: then every name gets its digest.
    if len({short.casefold() for short in unique.values()}) < len(unique):
        unique = told_apart(everywhere=True)
    return unique


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGEST]
