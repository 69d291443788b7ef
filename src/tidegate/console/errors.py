"""What can go wrong in the console."""

from __future__ import annotations

from tidegate.errors import TidegateError


class ConsoleError(TidegateError):
    """The console's own files cannot be read or written."""

    code = "console_error"


class SourceError(TidegateError):
    """A part of the picture cannot be read now; the message is shown in its place."""

    code = "source_error"
