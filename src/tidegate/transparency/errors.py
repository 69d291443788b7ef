"""What can go wrong with notes and logs."""

from __future__ import annotations

from tidegate.errors import TidegateError


class LogError(TidegateError):
    """The log cannot be read or written, or is not what an honest log is. Rely on nothing in it."""

    code = "log_error"


class MovedError(LogError):
    """Another writer was first: read on, decide again. Nothing was written."""

    code = "log_moved"


class EntryError(LogError):
    """Something cannot be an entry of the log, or an entry of it is malformed."""

    code = "log_entry"


class CheckpointError(LogError):
    """A checkpoint or a key is malformed, or no trusted key signed the note."""

    code = "log_checkpoint"


class WitnessError(LogError):
    """A witness cannot go on: its state cannot be read, was rolled back, or its clock went back."""

    code = "log_witness"
