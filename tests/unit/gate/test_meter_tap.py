"""What a tap answers is never believed half, and never breaks who asked."""

from __future__ import annotations

import sys

import pytest

from tidegate.gate.meter_port import Boundary, MeterError
from tidegate.gate.meter_tap import TapMeter

_ANSWERS = {
    "no text": (r'b"{\"meter\":\"\xff\"}\n"', "not JSON"),
    "cut off": (r'b"{\"meter\":\n"', "not JSON"),
    "of another kind, then no text": (r'b"{\"meter\":1,\xff\n"', "not JSON"),
    "as deep as a line is long": (r'b"[" * 60_000 + b"\n"', "not JSON"),
    "a refusal": (r'b"{\"error\":\"it lost frames\"}\n"', "it lost frames"),
}


@pytest.mark.parametrize("name", _ANSWERS)
def test_whatever_a_tap_answers_is_refused_with_a_reason(name: str) -> None:
    answer, reason = _ANSWERS[name]
    program = (
        "import os\n"
        "os.write(1, b'{\"ready\":true}\\n')\n"
        "os.read(0, 4096)\n"
        f"os.write(1, {answer})\n"
        "os.read(0, 1)\n"
    )
    tap = TapMeter([sys.executable, "-S", "-c", program])
    try:
        with pytest.raises(MeterError, match=reason):
            tap.read(Boundary(1, 1, "boot"))
    finally:
        tap.close()
