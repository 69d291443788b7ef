"""One error base for the whole product.

Every error carries a message for people and `diagnostics()` for machines. A message says what is
wrong and what to do; it never contains prompt text, token ids of an answer, or key material.
"""

from __future__ import annotations


class TidegateError(Exception):
    """Base of every error Tidegate raises on purpose."""

    code = "tidegate_error"

    def __init__(self, message: str, **details: str | int | float | bool | None) -> None:
        super().__init__(message)
        self.message = message
        self.details = details

    def diagnostics(self) -> dict[str, str | int | float | bool | None]:
        """A flat, JSON-ready object: the code, the message and the details."""
        return {"code": self.code, "message": self.message, **self.details}


class ConfigError(TidegateError):
    """A setting is missing, malformed or contradicts another."""

    code = "config_error"


class ModelError(TidegateError):
    """A model cannot be fetched, read or run: names the file and, where known, the tensor."""

    code = "model_error"


class IntegrityError(ModelError):
    """Bytes on disk do not have the hash that was pinned."""

    code = "integrity_error"


class BudgetExceededError(TidegateError):
    """An upload budget cannot cover a reservation. Nothing was charged."""

    code = "budget_exceeded"


class LedgerError(TidegateError):
    """The ledger cannot be read or written, or its chain does not verify. Traffic must stop."""

    code = "ledger_error"


class RecordError(TidegateError):
    """The record of what was served cannot be written, or something in it cannot be read."""

    code = "record_error"


class LinkError(TidegateError):
    """Something is wrong with what crossed the link; the link must be re-synchronised."""

    code = "link_error"


class ProtocolViolationError(LinkError):
    """The peer sent bytes, or events in an order, that the wire format does not allow."""

    code = "protocol_violation"


class NonCanonicalError(LinkError):
    """An upload decoded, but an honest encoder would have sent other bytes for the same symbols."""

    code = "non_canonical"


class GateError(TidegateError):
    """The gate cannot be set up, read or trusted. What it guards stays, or becomes, closed."""

    code = "gate_error"


class EngineError(TidegateError):
    """A model failed while it was generating."""

    code = "engine_error"


class EngineDownError(EngineError):
    """The engine is gone with all its sequences: no stream of it can go on, and none can begin."""

    code = "engine_down"
