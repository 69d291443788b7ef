"""A record small enough to see through, its key, and ways to damage it line by line."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tidegate.clock import ManualClock
from tidegate.errors import RecordError
from tidegate.record.entries import Begin, Does, End, Prefill, Reason, Stack, Tokens
from tidegate.record.private import Clear, Private, Seal, binding, pack
from tidegate.sampling.params import SamplingParams
from tidegate.sampling.seed import SeedService, commitment, prompt_digest
from tidegate.transparency.note import Checkpoint, Signer
from tidegate.verify.record_findings import Finding, Kind, Summary
from tidegate.verify.record_lines import EntryLine, NoteLine, parse_line
from tidegate.verify.record_reader import Expected, Reader
from tidegate.verify.record_response import Response
from tidegate.verify.record_store import Source, Store
from tidegate.verify.record_store_memory import MemoryStore
from tidegate.verify.record_writer import Writer

ORIGIN = "example.com/record"
SIGNER = Signer(ORIGIN, Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
KEY = SIGNER.verifier
SEEDS = SeedService(bytes(32))
PARAMS = SamplingParams(temperature=0.7, top_p=0.9, logit_bias=((3, -1.0),))
STACK = Stack(
    model="a" * 64,
    tokenizer="b" * 64,
    template="c" * 64,
    weak="ngram",
    vocabulary=96,
    engine="table",
    numerics="float32",
)
EXPECTED = Expected(
    models=frozenset({STACK.model}),
    tokenizers=frozenset({STACK.tokenizer}),
    templates=frozenset({STACK.template}),
)


def beginning(
    request: str = "r1",
    *,
    choice: int = 0,
    prompt: tuple[int, ...] = (1, 2, 3),
    seal: Seal | None = None,
    lora: str = "",
    max_tokens: int = 64,
) -> Begin:
    """The entry with which an answer begins; its seed is derived as the outer half derives it."""
    seed = SEEDS.derive(
        request_id=request,
        prompt_hash=prompt_digest(prompt),
        params=PARAMS,
        attempt=0,
        user_seed=None,
        choice=choice,
    )
    committed = commitment(seed).hex()
    plain = pack(Private(seed, prompt, ("stop\n",), None))
    sealing = seal or Clear()
    return Begin(
        request=request,
        choice=choice,
        attempt=0,
        principal="alice",
        lora=lora,
        params=PARAMS.canonical().hex(),
        max_tokens=max_tokens,
        ignore_eos=False,
        candidates=1,
        reasons=False,
        recalls=False,
        seed=committed,
        prompt_tokens=len(prompt),
        key=sealing.key,
        private=sealing.seal(plain, binding(request, choice, 0, committed)),
    )


@dataclass
class RecordWorld:
    """A writer over a store, which can be opened again as after a crash."""

    store: Store = field(default_factory=MemoryStore)
    clock: ManualClock = field(default_factory=ManualClock)
    segment_bytes: int = 1 << 20
    signer: Signer = SIGNER
    writer: Writer | None = None

    def open(self, more: Sequence[Does] = ()) -> Writer:
        """Open, or open again."""
        self.writer = Writer(
            self.store, self.signer, self.clock, STACK, more=more, segment_bytes=self.segment_bytes
        )
        return self.writer

    def put(self, *does: Does) -> list[int]:
        """Append entries that are recorded, each; their numbers."""
        writer = self.writer or self.open()
        numbers = []
        for done in writer.append(does):
            if isinstance(done, RecordError):
                raise done
            numbers.append(done)
        return numbers

    def answer(self, request: str, tokens: Iterable[int], chunk: int = 2) -> int:
        """Record a whole answer; its number."""
        ids = tuple(tokens)
        (number,) = self.put(beginning(request))
        self.put(Prefill(number, "0" * 32, 1, 7, 0, 0, ()))
        for start in range(0, len(ids), chunk):
            self.clock.advance(0.02)
            self.put(Tokens(number, start, 7 + start, ids[start : start + chunk]))
        self.put(End(number, Reason.STOP, "", len(ids), 40))
        return number


def read_all(
    source: Source, kept: Iterable[Checkpoint] = (), expected: Expected = EXPECTED
) -> tuple[list[Response], Summary]:
    """Read a record to its end."""
    reader = Reader(source, KEY, kept=kept, expected=expected)
    responses = [item for item in reader.read() if isinstance(item, Response)]
    for item in reader.finish():
        assert isinstance(item, Finding)
    return responses, reader.summary()


def kinds(source: Source, kept: Iterable[Checkpoint] = ()) -> set[Kind]:
    """The kinds of what is wrong with a record."""
    return {Kind(kind) for kind in read_all(source, kept)[1].counts}


def lines_of(store: MemoryStore, segment: int = 0) -> list[bytes]:
    """A segment's lines."""
    return bytes(store.data[segment]).splitlines(keepends=True)


def with_lines(lines: Iterable[bytes]) -> MemoryStore:
    """A store of one segment with these lines."""
    store = MemoryStore()
    store.data[0] = bytearray(b"".join(lines))
    return store


def entry_places(lines: Sequence[bytes]) -> list[int]:
    """Where entries stand among `lines`."""
    parsed = [parse_line(line.rstrip(b"\n")) for line in lines]
    return [place for place, line in enumerate(parsed) if isinstance(line, EntryLine)]


def notes_of(store: MemoryStore) -> list[str]:
    """Every checkpoint in a record, in order."""
    found = []
    for segment in store.segments():
        for line in lines_of(store, segment):
            parsed = parse_line(line.rstrip(b"\n"))
            if isinstance(parsed, NoteLine):
                found.append(parsed.note)
    return found
