"""One outer half over one, two and four lanes: does throughput grow with the engines?

Two cores hold no four engines, so the engines of the first part are made of time: each step takes
`STEP_S` however many streams there are, as a large model's does, and next to no processor. What is
real is everything else: inner and outer processes, links, coding, weak models; all of them share
these cores, which sets how short a step may be. The second part puts SmolLM2 on the exact engine in
their place, one thread each. In turns, several rounds, medians.
"""

from __future__ import annotations

import secrets
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from tidegate.bench.figures import Figure, at_least, report
from tidegate.bench.fleet import Options
from tidegate.bench.fleet_lanes_plan import MODEL, Found, InnerPlan, OuterPlan
from tidegate.errors import TidegateError
from tidegate.models.cache import Progress
from tidegate.models.prepared import EXACT, prepare

LANES: Final = (1, 2, 4)
STREAMS: Final = 8
STEP_S: Final = 0.1
ROUNDS: Final = 3
WARM_S: Final = 6.0
WINDOW_S: Final = 12.0
REAL_STREAMS: Final = 4
IDLE: Final = 4_000
ACTIVE: Final = 64
SETTLE_S: Final = 6.0

_LONG: Final = 400
_SECRET: Final = secrets.token_bytes(32)
T = TypeVar("T")


def measure(progress: Progress, options: Options) -> dict[str, Figure]:
    """The part's figures. Raises ModelError, or TidegateError where a process fails."""
    del options
    prepare(MODEL, progress=progress)
    prepare(EXACT + MODEL, progress=progress)
    rounds = [(lanes, step) for _ in range(ROUNDS) for lanes in LANES for step in (STEP_S,)]
    rounds += [(lanes, 0.0) for _ in range(ROUNDS) for lanes in LANES[:2]]
    found: dict[tuple[int, float], list[Found]] = {}
    for number, (lanes, step) in enumerate(rounds):
        progress("lanes", number, len(rounds) + 2)
        found.setdefault((lanes, step), []).append(_throughput(lanes, step))
    progress("lanes", len(rounds), len(rounds) + 2)
    idle = _memory(IDLE, slots=1)
    active = _memory(ACTIVE, slots=ACTIVE)
    progress("lanes", len(rounds) + 2, len(rounds) + 2)
    return _scaling(found) | _costs(found) | _memories(idle, active)


def _scaling(found: dict[tuple[int, float], list[Found]]) -> dict[str, Figure]:
    base = _rate(found[1, STEP_S])
    most = LANES[-1]
    made = (
        f"tokens a second over {{lanes}} lanes over {{lanes}} times that over one, {STREAMS} "
        f"streams a lane, engines that take {STEP_S * 1000:.0f} ms a step and next to no processor"
    )
    real = _rate(found[2, 0.0]) / _rate(found[1, 0.0])
    return {
        "lanes_scaling": at_least(
            _rate(found[most, STEP_S]) / base / most,
            0.9,
            unit="x linear",
            n=ROUNDS,
            how=made.format(lanes=most),
        ),
        "lanes_scaling_2": report(
            _rate(found[2, STEP_S]) / base / 2, unit="x linear", n=ROUNDS, how=made.format(lanes=2)
        ),
        "lanes_tokens_per_s": report(
            base, unit="tokens/s", n=ROUNDS, how=f"one lane of {STREAMS} streams, such an engine"
        ),
        "lanes_of_engine": report(
            base * STEP_S / STREAMS,
            unit="share",
            n=ROUNDS,
            how="of the tokens that such an engine could draw, those that arrived over one lane",
        ),
        "lanes_real_2_over_1": report(
            real,
            unit="x",
            n=ROUNDS,
            how=f"two inner halves with {MODEL} on the exact engine, a thread each, over one; "
            "with the outer half they share this machine's cores",
        ),
    }


def _costs(found: dict[tuple[int, float], list[Found]]) -> dict[str, Figure]:
    all_of = [one for (_, step), many in found.items() if step for one in many]
    return {
        "lanes_outer_us_per_token": report(
            statistics.median(1e6 * one.cpu_s / one.tokens for one in all_of),
            unit="us",
            n=len(all_of),
            how="processor time of the outer process a token, all lanes together, without HTTP",
        ),
        "lanes_bits_per_token": report(
            statistics.median(one.bits / one.tokens for one in all_of),
            unit="bit",
            n=len(all_of),
            how="what crossed, padding included; by the stand-in's making",
        ),
    }


def _memories(idle: tuple[float, float], active: tuple[float, float]) -> dict[str, Figure]:
    return {
        "lanes_idle_stream_kib": report(
            idle[0] / 1024,
            unit="KiB",
            n=IDLE,
            how="resident memory of the outer process a stream that waits for a slot",
        ),
        "lanes_active_stream_kib": report(
            active[0] / 1024,
            unit="KiB",
            n=ACTIVE,
            how="resident memory of the outer process a stream that is being answered",
        ),
        "lanes_active_stream_inner_kib": report(
            active[1] / 1024,
            unit="KiB",
            n=ACTIVE,
            how="of the inner process a stream that is being answered, without the engine's caches",
        ),
    }


def _rate(rounds: list[Found]) -> float:
    return statistics.median(one.tokens / one.seconds for one in rounds)


def _throughput(lanes: int, step_s: float) -> Found:
    streams = STREAMS if step_s else REAL_STREAMS
    with _inners(lanes, streams, step_s) as inners:
        plan = OuterPlan(
            addresses=tuple(address for address, _ in inners),
            secret=_SECRET,
            slots=streams,
            streams=streams,
            seconds=WINDOW_S,
            warm_s=WARM_S,
        )
        return _outer(plan)


def _memory(streams: int, slots: int) -> tuple[float, float]:
    """Bytes a stream in the outer and in the inner process."""
    with _inners(1, slots, STEP_S) as ((address, inner),):
        plan = OuterPlan(
            addresses=(address,),
            secret=_SECRET,
            slots=slots,
            streams=streams,
            what="memory",
            seconds=SETTLE_S,
            tokens=_LONG,
        )
        before = _peak(inner)
        found = _outer(plan)
        return found.bytes_each, (_peak(inner) - before) / streams


@contextmanager
def _inners(
    lanes: int, slots: int, step_s: float
) -> Iterator[list[tuple[str, subprocess.Popen[bytes]]]]:
    """So many inner halves: where each listens, and its process."""
    with tempfile.TemporaryDirectory(prefix="tg-") as folder, ExitStack() as stack:
        started = []
        for number in range(lanes):
            address = str(Path(folder) / f"{number}.sock")
            plan = InnerPlan(address=address, secret=_SECRET, slots=slots, step_s=step_s)
            process = _started("inner", plan)
            stack.callback(_end, process)
            started.append((address, process))
        for _, process in started:
            if process.stdout is None or process.stdout.readline() != b"ready\n":
                raise TidegateError("an inner half of the bench did not start")
        yield started


def _outer(plan: OuterPlan) -> Found:
    process = _started("outer", plan)
    try:
        out, _ = process.communicate()
    finally:
        _end(process)
    if process.returncode:
        raise TidegateError("the outer half of the bench failed; what it said stands above")
    return msgspec.json.decode(out, type=Found)


def _started(half: str, plan: InnerPlan | OuterPlan) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(  # noqa: S603
        [sys.executable, "-m", f"tidegate.bench.fleet_lanes_{half}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    if process.stdin is None:
        raise TidegateError("a process of the bench has no standard input")
    process.stdin.write(msgspec.json.encode(plan) + b"\n")
    process.stdin.flush()
    return process


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.stdin is not None:
        process.stdin.close()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()


def _peak(process: subprocess.Popen[bytes]) -> int:
    """Bytes that were resident at most."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    peak = next(line for line in lines if line.startswith("VmHWM:"))
    return 1024 * int(peak.split()[1])
