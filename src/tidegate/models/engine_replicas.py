"""Several servers of one model behind `engine_port.DrawingEngine`, each checked before it is asked.

1. It answers, and says its version; one that nobody has measured is refused.
2. It serves the model that was asked for, and says how long a context it takes.
3. Nothing of what it was started with draws tokens that cannot be drawn again.
4. It draws with our noise (`engine_probe`), so the plug-in is there and current.
5. Its log-probabilities are those of its own weights earlier, and of the other replicas'.

A replica that fails is named in the log, asked nothing, and looked at again until it passes. Those
that pass are looked at again now and then: whoever restarts one may forget the plug-in.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import structlog

from tidegate.clock import Clock, SystemClock
from tidegate.errors import EngineDownError, TidegateError
from tidegate.models.engine_http import Events, Http
from tidegate.models.engine_port import (
    Ask,
    Drawn,
    EngineLostError,
    EngineRefusedError,
    check_ask,
)
from tidegate.models.engine_probe import Heard, LogProbs, judge, probes, same_weights
from tidegate.models.port import ModelInfo
from tidegate.units import Seconds

_log = structlog.get_logger(__name__)

RETRY: Final = Seconds(5.0)
"""Between looks at a replica that failed."""

RECHECK: Final = Seconds(300.0)
"""Between looks at one that passed."""

GRACE: Final = Seconds(10.0)
"""For a replica to come back before the engine is given up as a whole."""

_MISSING: Final = {
    "greedy": "it takes the likeliest token whatever the seed: the plug-in is not installed there, "
    "or not loaded",
    "other": "it draws with other noise: another version of the plug-in, or other filters",
    "unclear": "its answers do not show whether the plug-in draws them",
}


@dataclass(frozen=True, slots=True)
class About:
    """What a server says of itself."""

    version: str
    model: str
    context_length: int
    numerics: str = ""


class Dialect(Protocol):
    """How one kind of server is spoken to. No state; errors are `engine_port`'s."""

    @property
    def name(self) -> str: ...

    def about(self, http: Http, url: str) -> About:
        """Checks 1 to 3. Raises EngineRefusedError or EngineLostError."""
        ...

    def stream(self, about: About, ask: Ask) -> tuple[str, object]:
        """Path and body that begin `ask`. Raises EngineRefusedError where it cannot be drawn."""
        ...

    def tokens(self, data: bytes, taken: int) -> Sequence[Drawn]:
        """What an event brings beyond the `taken` tokens before it.

        Raises EngineLostError for an engine's failure or an event that is not understood,
        EngineRefusedError where it will not serve this.
        """
        ...

    def logprobs(
        self, http: Http, url: str, about: About, prompts: Sequence[Sequence[int]]
    ) -> Sequence[LogProbs]:
        """Raw log-probabilities of the likeliest next tokens after each prompt, without the
        plug-in. Raises EngineRefusedError or EngineLostError."""
        ...


@dataclass(frozen=True, slots=True)
class ReplicaState:
    """One replica as it was last seen; `reason` says why it is not asked."""

    url: str
    up: bool
    version: str
    reason: str


@dataclass(slots=True, eq=False)
class _Replica:
    url: str
    about: About | None = None
    row: LogProbs | None = None
    up: bool = False
    reason: str = "not looked at yet"
    live: int = 0
    due: float = 0.0


class Replicas:
    """An engine of one or more servers. Raises EngineRefusedError unless one of them passes."""

    def __init__(
        self,
        dialect: Dialect,
        urls: Sequence[str],
        *,
        vocab_size: int,
        key: str | None = None,
        http: Http | None = None,
        retry: Seconds = RETRY,
        recheck: Seconds = RECHECK,
        grace: Seconds = GRACE,
        clock: Clock | None = None,
    ) -> None:
        """`urls` name every replica by itself: behind a balancer a bad one would hide.

        `key` is sent as a bearer token. `retry` and `recheck` are waits between looks, `grace` is
        how long an answer waits for any replica.
        """
        if not urls or len(set(urls)) < len(urls):
            raise EngineRefusedError("name each replica of the engine once, as http://host:port")
        self._dialect = dialect
        self._vocab_size = vocab_size
        self._http = http or Http(key=key)
        self._retry, self._recheck, self._grace = retry, recheck, grace
        self._clock = clock or SystemClock()
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._closing = threading.Event()
        self._hurry = threading.Event()
        self._replicas = tuple(_Replica(url.rstrip("/")) for url in urls)
        for replica in self._replicas:
            self._look(replica)
        passed = [replica for replica in self._replicas if replica.up]
        if not passed:
            self._http.close()
            first = self._replicas[0]
            raise EngineRefusedError(f"no replica of {dialect.name} can be used: {first.reason}")
        self._watch = threading.Thread(target=self._watching, name="engine-watch", daemon=True)
        self._watch.start()

    @property
    def context_length(self) -> int:
        """The shortest of those that passed."""
        return min(r.about.context_length for r in self._replicas if r.about is not None)

    def describe(self) -> ModelInfo:
        about = next(r.about for r in self._replicas if r.about is not None)
        return ModelInfo(
            name=about.model,
            parameters=0,
            licence="unknown",
            provenance=f"{self._dialect.name} {about.version} at {len(self._replicas)} address(es)",
            numerics=about.numerics or f"as {self._dialect.name} was started",
        )

    def replicas(self) -> tuple[ReplicaState, ...]:
        """Every replica as it was last seen."""
        return tuple(
            ReplicaState(r.url, r.up, "" if r.about is None else r.about.version, r.reason)
            for r in self._replicas
        )

    def start(self, ask: Ask) -> ReplicaDrawing:
        """See `engine_port.DrawingEngine.start`; the replica with the fewest sequences is asked."""
        check_ask(ask, self.context_length)
        with self._lock:
            # One that broke off an answer is looked at right now, and is mostly up again.
            self._changed.wait_for(self._any_up, timeout=self._grace)
            if not self._any_up():
                raise EngineDownError(f"no replica of {self._dialect.name} can be used")
            up = [replica for replica in self._replicas if replica.up]
            replica = min(up, key=lambda one: one.live)
            replica.live += 1
        try:
            return self._begun(replica, ask)
        except TidegateError:
            self._ended(replica)
            raise

    def recover(self) -> None:
        """See `port.Recovering`; replicas are looked at all the time, this only asks."""
        with self._lock:
            if not self._any_up():
                raise EngineDownError(f"no replica of {self._dialect.name} can be used")

    def close(self) -> None:
        """See `engine_port.DrawingEngine.close`."""
        self._closing.set()
        self._hurry.set()
        self._watch.join()
        self._http.close()

    def _any_up(self) -> bool:
        return any(replica.up for replica in self._replicas)

    def _begun(self, replica: _Replica, ask: Ask) -> ReplicaDrawing:
        about = replica.about
        if about is None:
            raise EngineLostError(f"{replica.url} has not been looked at")
        path, body = self._dialect.stream(about, ask)
        events = self._http.events(replica.url + path, body)

        def ended(error: TidegateError | None) -> None:
            self._ended(replica)
            if isinstance(error, EngineLostError):
                self._down(replica, error)
                self._hurry.set()

        return ReplicaDrawing(self._dialect, events, ask, self._vocab_size, ended)

    def _ended(self, replica: _Replica) -> None:
        with self._lock:
            replica.live -= 1

    def _watching(self) -> None:
        while not self._closing.is_set():
            self._hurry.wait(self._retry)
            self._hurry.clear()
            for replica in self._replicas:
                due = not replica.up or self._clock.monotonic() >= replica.due
                if due and not self._closing.is_set():
                    self._look(replica)

    def _look(self, replica: _Replica) -> None:
        """Run the checks; take the replica into service or out of it."""
        try:
            about = self._dialect.about(self._http, replica.url)
            row = self._probed(replica.url, about)
            if replica.row is not None and not same_weights(replica.row, row):
                raise EngineRefusedError(
                    f"{replica.url} has other weights than before; start the inner half again if "
                    "that is meant"
                )
            peers = [r.row for r in self._replicas if r is not replica and r.up and r.row]
            if peers and not same_weights(peers[0], row):
                raise EngineRefusedError(
                    f"{replica.url} has other weights than the replicas before it"
                )
        except TidegateError as error:
            self._down(replica, error)
            return
        if not replica.up:
            _log.info("engine_replica_up", url=replica.url, version=about.version)
        with self._lock:
            replica.about, replica.row, replica.reason, replica.up = about, row, "", True
            replica.due = self._clock.monotonic() + self._recheck
            self._changed.notify_all()

    def _down(self, replica: _Replica, error: TidegateError) -> None:
        named = replica.url in error.message
        reason = error.message if named else f"{replica.url}: {error.message}"
        with self._lock:
            fresh = replica.up or replica.reason != reason
            replica.up, replica.reason = False, reason
        if fresh:
            _log.error("engine_replica_down", url=replica.url, **error.diagnostics())

    def _probed(self, url: str, about: About) -> LogProbs:
        """Check 4; the log-probabilities after the first probe's prompt. Raises as `Dialect`."""
        first: LogProbs = {}
        for ask in probes(self._vocab_size):
            path, body = self._dialect.stream(about, ask)
            events = self._http.events(url + path, body)
            drawing = ReplicaDrawing(self._dialect, events, ask, self._vocab_size)
            try:
                tokens = tuple(drawing.take().token for _ in range(ask.max_tokens))
            finally:
                drawing.close()
            prompts = [(*ask.prompt, *tokens[:place]) for place in range(len(tokens))]
            rows = tuple(self._dialect.logprobs(self._http, url, about, prompts))
            first = first or rows[0]
            verdict = judge(ask, Heard(tokens, rows))
            if verdict == "seeded":
                return first
            if verdict != "unclear":
                break
        raise EngineRefusedError(f"{url} does not draw with our noise: {_MISSING[verdict]}")


class Hook(Protocol):
    """Told once that a sequence is over, and by what error."""

    def __call__(self, error: TidegateError | None) -> None: ...


class ReplicaDrawing:
    """One sequence of one replica. Not thread-safe."""

    def __init__(
        self,
        dialect: Dialect,
        events: Events,
        ask: Ask,
        vocab_size: int,
        ended: Hook = lambda error: None,
    ) -> None:
        self._dialect = dialect
        self._events = events
        self._ask = ask
        self._vocab_size = vocab_size
        self._ended: Hook | None = ended
        self._taken = 0
        self._left = ask.max_tokens
        self._heard: list[Drawn] = []

    def take(self) -> Drawn:
        """See `engine_port.Drawing.take`."""
        if self._left == 0:
            raise EngineLostError("the sequence has ended")
        try:
            while not self._heard:
                self._heard = list(self._next())
            drawn = self._heard.pop(0)
            if not 0 <= drawn.token < self._vocab_size:
                raise EngineLostError("the engine drew a token outside the vocabulary")
        except TidegateError as error:
            self._over(error)
            raise
        self._left -= 1
        if self._left == 0 or drawn.token in self._ask.ends:
            # Not every engine ends where it was told to.
            self._left = 0
            self.close()
        return drawn

    def _next(self) -> Sequence[Drawn]:
        data = self._events.next()
        if data is None:
            # A whole answer that is too short says nothing against the replica.
            self._over(None)
            raise EngineLostError(f"the engine ended after {self._taken} tokens")
        fresh = self._dialect.tokens(data, self._taken)
        self._taken += len(fresh)
        return fresh

    def close(self) -> None:
        """See `engine_port.Drawing.close`."""
        self._events.close()
        self._over(None)

    def _over(self, error: TidegateError | None) -> None:
        if self._ended is not None:
            self._ended(error)
            self._ended = None
