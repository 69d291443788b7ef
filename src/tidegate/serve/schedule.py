"""When the outer half grants a step and when it pulls, from what it expects to be waiting inside.

The outer half hears nothing but the frames it asks for, so it keeps a forecast: how many bits the
symbols granted so far will have come to, by what symbols have cost. Two mistakes cost: a pull with
less inside than its size is padded (bits), a pull too late keeps a token waiting (time).
It also guesses, from when frames came, until when the inner half has work. Positions are places
in the schedule; moments are given by the caller. No I/O and no clock.
"""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from tidegate.units import Seconds

LAG_BITS = 14.0
"""What a range coder keeps to itself when nothing makes it finish: about one byte and the carry.
Assumed; it only moves when pulls happen."""

_MEMORY = 64
"""Symbols over which the mean and variance of a token's cost are taken."""

_FIRST_MEAN = 4.0
_FIRST_VARIANCE = 25.0
"""Bits a token and their square, before any is known. Assumed: about what a small model leaves."""

_LEFT_STEPS = 2.5
"""Steps that a symbol waits where pulls stay two deviations below: with 8 streams, simulated."""

_SPANS = 8
"""Spans between answers of which the fastest tells how long a step takes."""

_DELAY = Seconds(0.25)
_LEAD = Seconds(0.05)


@dataclass(frozen=True, slots=True, kw_only=True)
class PullPolicy:
    """What to pay for latency.

    `sizes`: frame sizes in bytes, ascending. `delay`: how long a symbol may wait for others to fill
    its frame, and at least `delay_steps` steps; symbols that only say "wait" wait `idle_factor`
    times as long. `lead`: how much work the inner half is given ahead, so that it is not idle for
    the link's round trip; after a pull that is not answered yet at most `ahead` steps. New streams
    wait for that work. `sure`: how many deviations below what is expected inside a pull stays, and
    `sure_slow` where that is more than a step brings and waits for longer than `delay`.
    `window`: steps granted and not yet decoded, at most.
    """

    sizes: tuple[int, ...] = (2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
    delay: Seconds = _DELAY
    delay_steps: int = 4
    idle_factor: int = 4
    lead: Seconds = _LEAD
    ahead: int = 2
    sure: float = 2.0
    sure_slow: float = 0.5
    window: int = 64


@dataclass(slots=True)
class _Granted:
    step: int
    speaking: int
    firsts: int


@dataclass(slots=True)
class _Pulled:
    number: int
    size: int


class Work:
    """Until when the inner half is busy, guessed from how long its steps took so far.

    The guess is a low one: it takes the fastest of the last steps for all, and leaves out those
    that read prompts. Too low, a newcomer waits for a step more; too high, the inner half is idle.
    """

    def __init__(self, policy: PullPolicy) -> None:
        self._policy = policy
        self._until = 0.0
        self._heard: tuple[Seconds, int] | None = None
        self._spans: deque[Seconds] = deque(maxlen=_SPANS)
        self._reading: deque[tuple[int, int]] = deque()
        self._read_times: deque[Seconds] = deque(maxlen=_SPANS)
        self.answered_after = -1
        """The last step before a pull that was answered: up to here the inner half is done."""

    @property
    def step_time(self) -> Seconds:
        """What a step takes; 0 before the first was timed, so that nothing waits for a guess."""
        return min(self._spans, default=Seconds(0.0))

    @property
    def ahead(self) -> int:
        """Steps to grant after a pull that is not answered yet."""
        policy = self._policy
        return sum(n * self.step_time <= policy.lead for n in range(1, policy.ahead + 1))

    def joining(self, lengths: Sequence[int]) -> int:
        """With how many of the waiting prompts, of so many tokens each, the next step should begin.

        Prompts that share a step wait for each other; each further step holds up those behind it.
        With R the time to read all and S a step, reading for sqrt(R S) a step makes the mean time
        to first token least. All, where reading is quick or nothing is known.
        """
        if not (lengths and self._read_times and self._spans):
            return len(lengths)
        each = statistics.median(self._read_times)
        budget = math.sqrt(each * sum(lengths) * self.step_time)
        ends = accumulate(each * length for length in lengths)
        return max(1, sum(end <= budget for end in ends))

    def granted(self, step: int, now: Seconds, *, prompts: int) -> None:
        """Step `step` was granted, which begins with reading so many tokens of prompts."""
        self._until = max(self._until, now) + self.step_time
        if prompts:
            self._reading.append((step, prompts))
        if self._heard is None:
            self._heard = (now, step - 1)

    def answered(self, after: int, granted: int, now: Seconds, *, goes_on: bool) -> None:
        """The pull after step `after` was answered while steps up to `granted` were granted;
        `goes_on` if the inner half starts another step at once."""
        read = 0
        while self._reading and self._reading[0][0] <= after:
            read += self._reading.popleft()[1]
        if self._heard is not None and after > self._heard[1]:
            took, steps = now - self._heard[0], after - self._heard[1]
            if not read:
                self._spans.append(Seconds(took / steps))
            elif took > steps * self.step_time:
                self._read_times.append(Seconds((took - steps * self.step_time) / read))
        self._heard = (now, after) if goes_on else None
        self._until = now + (granted - after) * self.step_time
        self.answered_after = after

    def wait(self, now: Seconds) -> Seconds:
        """How long to hold back the next step, so that the work ahead is the lead; 0: grant it."""
        return Seconds(max(0.0, self._until - now - self._policy.lead))


class Forecast:
    """What is expected to be inside the coder at the end of the schedule so far."""

    def __init__(self, policy: PullPolicy, work: Work) -> None:
        self.policy = policy
        self._work = work
        self._mean = _FIRST_MEAN
        self._variance = _FIRST_VARIANCE
        self._learned = 8
        self._ahead: deque[_Granted | _Pulled] = deque()
        self._pulls = 0
        self._bits = -LAG_BITS
        self._unsure = 0
        self._uncovered = 0.0
        self._speaking = 0
        self._firsts = 0

    @property
    def bits(self) -> float:
        """Bits that a frame could carry at the end of the schedule, as far as can be told."""
        return self._bits

    @property
    def short(self) -> bool:
        """Whether a pull that was to bring first tokens came to too little for them."""
        done = self._work.answered_after
        return any(
            isinstance(event, _Granted) and event.firsts > 0 and event.step <= done
            for event in self._ahead
        )

    def granted(self, step: int, *, speaking: int, firsts: int) -> None:
        """Step `step` was granted, at which so many streams say a token and the others wait;
        `firsts` of them say their first one."""
        self._ahead.append(_Granted(step, speaking, firsts))
        self._speaking = speaking
        self._firsts = firsts
        self._grow(speaking)
        self._uncovered += 1.0 if speaking else 1.0 / self.policy.idle_factor

    def pulled(self, size: int) -> None:
        """A pull was placed after the last granted step."""
        flushed = self._shrink(size)
        self._ahead.append(_Pulled(self._pulls, size))
        self._pulls += 1
        if flushed:
            self._uncovered = 0.0
            self._firsts = 0
        else:
            left = (self._bits + LAG_BITS) / max(1.0, self._mean * self._speaking)
            self._uncovered = min(self._uncovered, left)

    def came(self, step: int, tokens: int) -> None:
        """So many more tokens of step `step` are known; first ones come first in their step."""
        for event in self._ahead:
            if isinstance(event, _Granted) and event.step == step:
                event.firsts = max(0, event.firsts - tokens)

    def decoded(self, step: int, pulls: int, unsent_bits: int) -> None:
        """All symbols up to `step` are known; of them so many bits are in none of the first
        `pulls` frames."""
        while self._ahead:
            event = self._ahead[0]
            if event.step > step if isinstance(event, _Granted) else event.number >= pulls:
                break
            self._ahead.popleft()
        self._bits = float(unsent_bits)
        self._unsure = 0
        for event in self._ahead:
            if isinstance(event, _Granted):
                self._grow(event.speaking)
            else:
                self._shrink(event.size)

    def learned(self, bits: float) -> None:
        """A token cost `bits`."""
        self._learned = min(_MEMORY, self._learned + 1)
        error = bits - self._mean
        self._mean += error / self._learned
        self._variance += (error * error - self._variance) / self._learned

    def next_pull(self, *, stalled: bool) -> int | None:
        """The size of the pull to place now, or None. `stalled`: nothing else will happen."""
        policy = self.policy
        deviation = math.sqrt(self._variance * self._unsure)
        step_time = self._work.step_time
        slow = _LEFT_STEPS * step_time > policy.delay
        # Where a step brings more than stays inside, the next one pushes it out soon enough.
        much = 2.0 * deviation > self._mean * self._speaking
        sure = policy.sure_slow if slow and much else policy.sure
        surely = self._bits - sure * deviation
        size = max((s for s in policy.sizes if 8 * s <= surely), default=0)
        if size:
            return size
        # First tokens are coded first in their step: what comes after pushes them out if it is
        # more than stays inside.
        behind = self._mean * (self._speaking - self._firsts)
        urgent = self._firsts > 0 and behind < LAG_BITS + 2.0 * deviation
        # Where frames fill by themselves every other step, hurrying gains a step and costs a frame.
        flowing = 2 * self._mean * self._speaking >= 8 * policy.sizes[0]
        late = not flowing and self._uncovered >= policy.delay_steps
        late = late and self._uncovered * (step_time or policy.delay) >= policy.delay
        if stalled or late or urgent:
            needed = max(0.0, self._bits) + LAG_BITS + deviation
            if self.short:
                # By how much it was too little, nobody knows: about the deviation of what is ahead.
                symbols = sum(e.speaking for e in self._ahead if isinstance(e, _Granted))
                needed += math.sqrt(self._variance * symbols)
            return next((s for s in policy.sizes if 8 * s >= needed), policy.sizes[-1])
        return None

    def _grow(self, speaking: int) -> None:
        self._bits += self._mean * speaking
        self._unsure += speaking

    def _shrink(self, size: int) -> bool:
        """Take a frame out; whether that empties the coder."""
        self._bits -= 8 * size
        if self._bits >= 0.0:
            return False
        # A new segment holds back its first bits.
        self._bits = -LAG_BITS
        self._unsure = 0
        return True
