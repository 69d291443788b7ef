"""The one error that a parser of evidence may raise, whatever bytes it is given."""

from __future__ import annotations

from tidegate.errors import TidegateError


class EvidenceError(TidegateError):
    """Bytes are not the evidence they are taken for. `field`: which part of it cannot be read."""

    code = "evidence_malformed"

    def __init__(self, kind: str, field: str, reason: str) -> None:
        super().__init__(f"{kind}: {field}: {reason}", kind=kind, field=field)
        self.kind = kind
        self.field = field
        self.reason = reason
