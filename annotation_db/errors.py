"""What the store refuses, each in one sentence that a user can act on."""

from __future__ import annotations


class StoreError(Exception):
    """The store could not do what was asked; nothing was changed unless the sentence says so."""


class NotAProjectError(StoreError):
    """The file is no database of this program."""


class DamagedDatabaseError(StoreError):
    """Some pages of the database can no longer be read."""


class NewerDatabaseError(StoreError):
    """The database was written by a newer version of the program."""


class StoreBusyError(StoreError):
    """Another program held the database for longer than the busy timeout."""


class ReadOnlyStoreError(StoreError):
    """The database cannot be written: the disk is read-only, full, or the folder is protected."""


class UnknownRecordError(StoreError):
    """No such query, slice, revision or lease in this project."""


class MaskError(StoreError, ValueError):
    """A mask that does not fit its slice or its classes."""


class CorruptMaskError(StoreError):
    """A stored mask whose bytes no longer match their checksum."""


class StaleSubmitError(StoreError):
    """A submit that came too late; its mask was kept aside.

    Attributes
    ----------
    revision_id
        The revision under which the refused mask was kept.
    """

    def __init__(self, sentence: str, revision_id: int) -> None:
        super().__init__(sentence)
        self.revision_id = revision_id
