"""A witness in a process of its own, on a free port.

Usage: witness_process.py FOLDER READY LOG_KEY
"""

from __future__ import annotations

import sys
from pathlib import Path

from log_world import cosigner

from tidegate.cli.http_serving import serve
from tidegate.clock import SystemClock
from tidegate.transparency.note import Verifier
from tidegate.transparency.witness_anchor import FileAnchor
from tidegate.transparency.witness_http import witness_app
from tidegate.transparency.witness_service import WitnessService
from tidegate.transparency.witness_store_sqlite import SqliteWitnessStore


def main(folder: Path, ready: Path, log_key: str) -> None:
    key = Verifier.parse(log_key)
    service = WitnessService(
        [cosigner(0)],
        {key.name: [key]},
        SqliteWitnessStore(folder / "witness.db"),
        FileAnchor(folder / "anchor"),
        SystemClock(),
    )
    serve(witness_app(service, lambda error: None), "127.0.0.1", 0, ready)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
