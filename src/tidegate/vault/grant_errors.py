"""What can go wrong with grants, beyond a refusal that the rules foresee."""

from __future__ import annotations

from tidegate.vault.errors import VaultError


class GrantError(VaultError):
    """The journal of grants cannot be read or written, or an entry breaks its grammar."""

    code = "grant_error"


class RefusedError(VaultError):
    """The rules refuse. `check`: the number of the first rule that fails; `rule`: its name."""

    code = "grant_refused"

    def __init__(self, what: str, check: int, rule: str, reason: str) -> None:
        super().__init__(f"Refused ({what}, check {check}, {rule}): {reason}", check=check)
        self.what = what
        self.check = check
        self.rule = rule
        self.reason = reason

    def diagnostics(self) -> dict[str, str | int | float | bool | None]:
        return super().diagnostics() | {
            "what": self.what,
            "rule": self.rule,
            "reason": self.reason,
        }


class ClockMovedError(VaultError):
    """The wall clock is not where time has got to. Nothing is decided until somebody looked."""

    code = "clock_moved"
