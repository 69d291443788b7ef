"""The fleet's commands as the bench starts them: processes of their own, as users have them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tidegate.bench.fleet_served import MODEL, Served
from tidegate.errors import EngineError
from tidegate.verify.fleet_executor import Post


@dataclass(frozen=True, slots=True)
class Place:
    """A plan's folder, the fleet's key, and the record it is of."""

    served: Served
    fleet: Path
    key: Path

    @property
    def post(self) -> Post:
        """What workers are told."""
        return Post(
            record=str(self.served.record),
            fleet=str(self.fleet),
            fleet_key=str(self.key),
            threads=1,
        )

    def command(self, name: str, *more: str) -> list[str]:
        """`tidegate fleet NAME` on this record and plan."""
        places = (str(self.served.record), str(self.fleet), "--fleet-key", str(self.key))
        return [sys.executable, "-m", "tidegate", "fleet", name, *places, *more]


def plan_in(folder: Path, served: Served, shard_tokens: int) -> Place:
    """Plan the record in a new folder. Raises EngineError where the command fails."""
    place = Place(served, folder / "fleet", folder / "fleet.key")
    folder.mkdir()
    more = ("--key", str(served.key), "--model", f"exact:{MODEL}", "--json")
    finished(place.command("plan", *more, "--shard-tokens", str(shard_tokens)))
    return place


def finished(command: Sequence[str]) -> str:
    """What a command prints; it must exit with 0. Raises EngineError."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise EngineError(f"`{' '.join(command[3:6])}` failed: {done.stderr.strip()[-500:]}")
    return done.stdout
