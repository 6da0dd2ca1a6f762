"""The store of a project: what there is to label, who labels what, and every mask ever made.

Everything goes through `Store`; records, arrays and ids come out, never a session or a table
object. One user action is one transaction. This package knows nothing of images, networks or
windows, so that labels outlive all of them.
"""

from .answers import ImportCounts
from .catalogue import pool_checksum
from .errors import (
    CorruptMaskError,
    DamagedDatabaseError,
    MaskError,
    NewerDatabaseError,
    NotAProjectError,
    ReadOnlyStoreError,
    StaleSubmitError,
    StoreBusyError,
    StoreError,
    UnknownRecordError,
)
from .payload import MAX_SIDE, PackedMask, pack, unpack
from .records import (
    AcceptedRecord,
    ClassRecord,
    Fault,
    LeaseRecord,
    NewRound,
    NewVolume,
    ProjectRecord,
    QueryRecord,
    RevisionRecord,
    RootRecord,
    RoundRecord,
    SliceRow,
    StrokeRecord,
    VolumeRecord,
)
from .store import Store

__all__ = [
    "MAX_SIDE",
    "AcceptedRecord",
    "ClassRecord",
    "CorruptMaskError",
    "DamagedDatabaseError",
    "Fault",
    "ImportCounts",
    "LeaseRecord",
    "MaskError",
    "NewRound",
    "NewVolume",
    "NewerDatabaseError",
    "NotAProjectError",
    "PackedMask",
    "ProjectRecord",
    "QueryRecord",
    "ReadOnlyStoreError",
    "RevisionRecord",
    "RootRecord",
    "RoundRecord",
    "SliceRow",
    "StaleSubmitError",
    "Store",
    "StoreBusyError",
    "StoreError",
    "StrokeRecord",
    "UnknownRecordError",
    "VolumeRecord",
    "pack",
    "pool_checksum",
    "unpack",
]
