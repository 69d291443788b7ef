"""What a controller last knew, on the disk for `tidegate gate status`; nothing is decided on it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

FILE: Final = "figures.json"


class Charged(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One account in this period: bytes as nftables counts them, and as the program on the wire
    does (None without one); the larger is charged. `elapsed_ms`: of the period."""

    name: str
    nft: int
    wire: int | None
    elapsed_ms: int

    @property
    def charged(self) -> int:
        """What counts against the quota."""
        return max(self.nft, self.wire or 0)


class Counts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one meter counted since the meters began; None where it does not know."""

    meter: str
    frames: int | None
    ip_bytes: int | None
    wire_bytes: int | None


class Metered(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the meters said last: in words, whether they agreed, and to the byte; bytes in flight
    within which they did. `ledger_spent` and `ledger_reserved`: bytes of the lifetime, timing
    included. Times are nanoseconds of the gate's monotonic clock."""

    verdict: str
    agree: bool
    settled: bool
    in_flight: int | None
    meters: tuple[Counts, ...]
    ledger_spent: int
    ledger_reserved: int
    judged_ns: int
    lease_until_ns: int
    closed: str
    latched: str | None


class Published(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Everything, at `monotonic_ns` of the boot `boot`."""

    boot: str
    monotonic_ns: int
    open: bool
    reason: str
    accounts: tuple[Charged, ...]
    metered: Metered | None = None


def write(folder: Path, published: Published) -> None:
    """Replace what was published before; it is not synced, and lost with the machine.

    Raises OSError.
    """
    fresh = folder / f"{FILE}.new"
    fresh.write_bytes(msgspec.json.encode(published))
    fresh.replace(folder / FILE)


def read(folder: Path, boot: str) -> Published | None:
    """What was published in this boot; None where there is nothing that can be read."""
    try:
        found = msgspec.json.decode((folder / FILE).read_bytes(), type=Published)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return found if found.boot == boot else None
