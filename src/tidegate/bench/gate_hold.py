"""Applies a policy and holds it until it is killed: `gate_hold POLICY begin|again`, in JSON.

A program of its own, and a small one: a copy of the bench would load the whole command line before
each start, which on a busy machine takes longer than anybody waits for a gate to open.
"""

from __future__ import annotations

import sys
import threading
from typing import Final

from tidegate.clock import SystemClock
from tidegate.errors import TidegateError
from tidegate.gate.controller import Gate
from tidegate.gate.heartbeat import hold
from tidegate.gate.policy import Policy
from tidegate.gate.state import Store

STARTED: Final = "started"
"""Its first line. What comes after is why it gave up."""
BEGIN, AGAIN = "begin", "again"


def main(text: str, begin: str) -> None:
    """Returns only where the gate cannot be kept, having said why."""
    print(STARTED, flush=True)
    chosen = Policy.model_validate_json(text)
    clock = SystemClock()
    gate = Gate(chosen, Store(chosen.state), clock)
    try:
        gate.apply(begin=begin == BEGIN)
        hold(gate, clock, threading.Event())
    except TidegateError as error:
        print(error.message, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
