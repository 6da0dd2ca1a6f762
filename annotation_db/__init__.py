"""The store of a project: what there is to label, who labels what, and every mask ever made.

Everything goes through `Store`; records, arrays and ids come out, never a session or a table
object. One user action is one transaction. This package knows nothing of images, networks or
windows, so that labels outlive all of them.
"""

from .answers import ImportCounts
from .by_hand import BY_HAND, HandCounts
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
from .jobs import UNFINISHED
from .payload import MAX_SIDE, UNLABELLED, PackedMask, pack, unpack
from .processes import ProcessMark
from .records import (
    AcceptedRecord,
    ClassRecord,
    Fault,
    JobRecord,
    LeaseRecord,
    NewRound,
    NewVolume,
    ProjectRecord,
    ProposalRecord,
    QueryRecord,
    RevisionRecord,
    RootRecord,
    RoundRecord,
    RunRecord,
    SliceRow,
    StandingRecord,
    StrokeRecord,
    VolumeRecord,
)
from .store import Store

__all__ = [
    "BY_HAND",
    "MAX_SIDE",
    "UNFINISHED",
    "UNLABELLED",
    "AcceptedRecord",
    "ClassRecord",
    "CorruptMaskError",
    "DamagedDatabaseError",
    "Fault",
    "HandCounts",
    "ImportCounts",
    "JobRecord",
    "LeaseRecord",
    "MaskError",
    "NewRound",
    "NewVolume",
    "NewerDatabaseError",
    "NotAProjectError",
    "PackedMask",
    "ProcessMark",
    "ProjectRecord",
    "ProposalRecord",
    "QueryRecord",
    "ReadOnlyStoreError",
    "RevisionRecord",
    "RootRecord",
    "RoundRecord",
    "RunRecord",
    "SliceRow",
    "StaleSubmitError",
    "StandingRecord",
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
