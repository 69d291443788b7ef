"""What a proof costs: prover and verifier over plain decoding, and tampers that go unseen.

Plain decoding, recorded decoding and verification of the same requests alternate in one process, on
the same cores; a tax is the time of the last two over the first. Peers cannot run here; as their
authors state it, CommitLLM adds 12 to 14% to serving, EZKL takes 10⁵ to 10⁷ times the computation.
"""

from __future__ import annotations

import hashlib
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tidegate.bench import peak_memory
from tidegate.bench.figures import Figure, at_most, report
from tidegate.models.cache import Progress, no_progress
from tidegate.models.exact import format as exact_format
from tidegate.models.exact.format import Converted
from tidegate.models.exact.load import model_of
from tidegate.models.exact.model import ExactModel
from tidegate.models.exact.parameters import expected
from tidegate.models.exact.seeded import tensors_of
from tidegate.models.exact.shape import Shape
from tidegate.prove import files, keyfile, keys, merkle, receipt
from tidegate.prove.check import Proof, verify
from tidegate.prove.keys import Key
from tidegate.prove.passes import OpsOf, native_ops
from tidegate.prove.produce import Produced, Prover, generate
from tidegate.prove.statement import Request, Statement, encode
from tidegate.prove.tiers import Tier
from tidegate.prove.trace import Layout, Read
from tidegate.prove.verdict import Pass, UnverifiableError, Verdict
from tidegate.sampling.finish import Limits
from tidegate.sampling.params import SamplingParams
from tidegate.transparency.note import Signer

_PROMPT = 32

_SMALL = Shape(
    family="qwen2",
    vocab_size=96,
    width=32,
    layers=2,
    heads=4,
    kv_heads=2,
    head_size=8,
    ffn_size=48,
    context_length=64,
    eps=1e-5,
    rope_theta=10_000.0,
    qkv_bias=True,
    tied=False,
)


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds of one round of the same requests."""

    plain: float
    recorded: float
    verified: float

    @property
    def tax(self) -> float:
        """Prover and verifier over plain."""
        return (self.recorded + self.verified) / self.plain


@dataclass(frozen=True, slots=True)
class Case:
    """Requests that run together: prompt and answer in tokens."""

    prompt: int
    answer: int
    batch: int = 1


CASES = {
    "t3.tax_160": Case(_PROMPT, 160 - _PROMPT),
    "t3.tax_160_batch8": Case(_PROMPT, 160 - _PROMPT, 8),
    "t3.tax_1024": Case(_PROMPT, 1024 - _PROMPT),
    "t3.tax_prefill_512": Case(512, 1),
}


class _Memory:
    """A trace in memory that is used again and again, as a network buffer would be."""

    def __init__(self, layout: Layout) -> None:
        # Written to, so that no run pays for touching fresh pages.
        self.rows = bytearray(b"\1") * layout.offset(len(layout.blocks()))
        self.hashes = bytearray(b"\1") * layout.hashes_offset(layout.positions)
        self._at = [0, 0]

    def restart(self) -> None:
        self._at = [0, 0]

    def __call__(self, raw: bytes | bytearray, hashes: list[bytes]) -> None:
        parts = (raw, b"".join(hashes))
        for number, (target, part) in enumerate(zip((self.rows, self.hashes), parts, strict=True)):
            start = self._at[number]
            target[start : start + len(part)] = part
            self._at[number] += len(part)

    def proof(self, note: str, embedding: bytes) -> Proof:
        rows, hashes = _reading(self.rows), _reading(self.hashes)
        return Proof(note=note, rows=rows, hashes=hashes, embedding=_reading(embedding))


class Bench:
    """A converted model with prover, key and verifier."""

    def __init__(self, converted: Converted, threads: int) -> None:
        self.converted = converted
        self.model: ExactModel = model_of(converted, threads=threads)
        self.prover = Prover(self.model, converted.shape)
        self.raw_key = keys.generate(converted)
        self.key: Key = keys.decode(self.raw_key)
        self.signer = Signer("bench.example/receipts", Ed25519PrivateKey.generate())
        self._ops_of: OpsOf = native_ops(threads)
        self._embedding = keys.embedding_rows(converted)
        self._tree = keys.row_tree(self._embedding)

    def requests(self, case: Case) -> list[Request]:
        """Different prompts of one length, sampled at 0.7 to the last allowed token."""
        vocabulary = self.converted.shape.vocab_size
        return [
            Request(
                nonce=hashlib.sha256(b"nonce %d" % number).digest(),
                seed=hashlib.sha256(b"seed %d" % number).digest(),
                prompt_ids=tuple(
                    (7919 * place + 104729 * number + 17) % vocabulary
                    for place in range(case.prompt)
                ),
                params=SamplingParams(temperature=0.7),
                limits=Limits(max_tokens=case.answer, ignore_eos=True),
            )
            for number in range(case.batch)
        ]

    def proof(self, memory: _Memory, produced: Produced) -> Proof:
        """What the prover hands over."""
        statement = produced.statement
        note = receipt.make(statement, self.key.subject, tier=Tier.FREIVALDS, trace=produced.root)
        fed = (*statement.request.prompt_ids, *statement.tokens[:-1])
        opened = merkle.opened(self._embedding, self._tree, fed)
        return memory.proof(receipt.sign(note, self.signer), opened)

    def verify(self, proof: Proof, statement: Statement) -> Verdict:
        """What the verifier says."""
        return verify(proof, statement, self.key, self.signer.verifier, ops_of=self._ops_of)

    def times(self, case: Case, repeats: int, progress: Callable[[int], None]) -> list[Times]:
        """Plain, recorded and verified, in turn. Raises UnverifiableError unless all verify."""
        requests = self.requests(case)
        layout = Layout(self.converted.shape, case.prompt, case.answer)
        memories = [_Memory(layout) for _ in requests]
        found = []
        self.recorded(requests, memories)  # buffers grow on first use
        for repeat in range(repeats):
            progress(repeat)
            self.model.reuse = False  # or the second run of a prompt would skip its prefill
            start = time.perf_counter()
            generate(self.model, requests, lambda ids: "")
            plain = time.perf_counter() - start
            start = time.perf_counter()
            proofs = self.recorded(requests, memories)
            recorded = time.perf_counter() - start
            start = time.perf_counter()
            verdicts = [self.verify(proof, statement) for statement, proof in proofs]
            found.append(Times(plain, recorded, time.perf_counter() - start))
            if not all(isinstance(verdict, Pass) for verdict in verdicts):
                raise UnverifiableError(f"an honest proof was refused: {verdicts}")
        return found

    def recorded(
        self, requests: Sequence[Request], memories: Sequence[_Memory]
    ) -> list[tuple[Statement, Proof]]:
        """Answer requests and keep their traces in `memories`."""
        for memory in memories:
            memory.restart()
        produced = self.prover.produce(requests, lambda ids: "", list(memories))
        pairs = zip(produced, memories, strict=True)
        return [(one.statement, self.proof(memory, one)) for one, memory in pairs]


def tampers_missed(count: int, progress: Callable[[int], None]) -> int:
    """How many of `count` proofs with one bit flipped pass, on a small model.

    The bit is in trace, hashes, embedding rows or receipt, each as likely; drawn by SHA-256.
    """
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(small_model(Path(folder) / "model"), threads=1)
        request = bench.requests(Case(12, 9))[0]
        memory = _Memory(Layout(_SMALL, 12, 9))
        statement, proof = bench.recorded([request], [memory])[0]
        sealed = {
            "note": proof.note.encode(),
            "rows": bytes(memory.rows),
            "hashes": bytes(memory.hashes),
            "embedding": bytes(proof.embedding(0, 1 << 30)),
        }
        missed = 0
        for number in range(count):
            progress(number)
            drawn = int.from_bytes(hashlib.sha256(b"tamper %d" % number).digest())
            drawn, which = divmod(drawn, len(sealed))
            name = list(sealed)[which]
            bit = drawn % (8 * len(sealed[name]))
            altered = bytearray(sealed[name])
            altered[bit // 8] ^= 1 << bit % 8
            missed += isinstance(bench.verify(_with(proof, name, bytes(altered)), statement), Pass)
    return missed


def _with(proof: Proof, name: str, raw: bytes) -> Proof:
    if name == "note":
        return replace(proof, note=raw.decode("utf-8", "replace"))
    read = _reading(raw)
    changed = {"rows": proof.rows, "hashes": proof.hashes, "embedding": proof.embedding, name: read}
    return Proof(note=proof.note, **changed)


def _reading(raw: bytes | bytearray) -> Read:
    view = memoryview(raw)
    return lambda offset, size: view[offset : offset + size]


def small_model(folder: Path) -> Converted:
    """A converted model that proves in milliseconds, from a seed."""
    tensors = tensors_of(_SMALL, "bench", wide_embedding=True)
    exact_format.write(
        folder,
        _SMALL,
        [(name, tensors[name]) for name in expected(_SMALL)],
        name="small",
        licence="none",
        provenance="seeded",
        source_sha256="",
        made_with="",
        settings={},
        files={},
    )
    return exact_format.read(folder)


def verifier_bytes(bench: Bench, case: Case) -> int:
    """Peak resident memory of `tidegate prove verify`, a process of its own, on a proof on disk."""
    statement_name, key_name, signer_name = "asked.json", "verifier.key", "prover.pub"
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        with files.making(folder / "proof") as proof, files.TraceWriter(proof) as sink:
            produced = bench.prover.produce(bench.requests(case), lambda ids: "", [sink])[0]
            handed = bench.proof(_Memory(Layout(bench.converted.shape, 1, 1)), produced)
            (proof / files.RECEIPT).write_text(handed.note)
            (proof / files.EMBEDDING).write_bytes(handed.embedding(0, 1 << 30))
        (folder / statement_name).write_bytes(encode(produced.statement))
        keyfile.write(folder / key_name, bench.raw_key)
        (folder / signer_name).write_text(bench.signer.verifier.encode())
        words = ["--statement", statement_name, "--key", key_name, "--signer", signer_name]
        done = peak_memory.run("prove", "verify", "proof", "--json", *words, cwd=folder)
    if done.status or done.peak is None:
        raise UnverifiableError(f"the verifier's process refused an honest proof: {done.errors}")
    return done.peak


def figures(
    converted: Converted,
    *,
    threads: int,
    repeats: int = 3,
    tampers: int = 10_000,
    progress: Progress = no_progress,
) -> dict[str, Figure]:
    """All figures of proofs over one converted model."""
    bench = Bench(converted, threads)
    found: dict[str, Figure] = {}
    limits = {"t3.tax_160": 1.4, "t3.tax_1024": 1.6}
    for key, case in CASES.items():
        stage = f"proof, {case.batch} x {case.prompt} + {case.answer} tokens"
        times = bench.times(case, repeats, _counted(progress, stage, repeats))
        progress(stage, repeats, repeats)
        tax = statistics.median(one.tax for one in times)
        how = _how(case, times)
        found[key] = (
            at_most(tax, limits[key], unit="ratio", n=repeats, how=how)
            if key in limits
            else report(tax, unit="ratio", n=repeats, how=how)
        )
    found["t3.key_bytes"] = report(
        bench.key.column_bytes,
        unit="bytes",
        n=len(bench.key.columns),
        how="two 64-bit words an input of every product (three beyond 2,080 inputs); the key file "
        f"with gains, scales, rotations and tokenizer has {len(bench.raw_key)}",
    )
    case = CASES["t3.tax_1024"]
    found["t3.verifier_bytes"] = report(
        verifier_bytes(bench, case),
        unit="bytes",
        n=1,
        how=f"peak resident memory of `tidegate prove verify`, interpreter included, on a proof of "
        f"{case.prompt} + {case.answer} tokens",
    )
    found["t3.row_error_log2"] = at_most(
        -min(columns.bits for columns in bench.key.columns.values()),
        -78,
        unit="log2",
        n=len(bench.key.columns),
        how="chance that a wrong row passes: 127²·K bounds what powers of two can divide an error",
    )
    missed = tampers_missed(tampers, _counted(progress, "tampered proofs", tampers))
    progress("tampered proofs", tampers, tampers)
    found["tampers_missed"] = at_most(
        missed,
        0,
        unit="proofs",
        n=tampers,
        how="proofs of a small model with one random bit of trace, hashes, embedding or receipt "
        "flipped, that passed",
    )
    return found


def _counted(progress: Progress, stage: str, total: int) -> Callable[[int], None]:
    return lambda done: progress(stage, done, total)


def _how(case: Case, times: Sequence[Times]) -> str:
    positions = case.batch * (case.prompt + case.answer - 1)
    plain, recorded, verified = (
        1e3 * statistics.median(getattr(one, name) for one in times) / positions
        for name in ("plain", "recorded", "verified")
    )
    taxes = [one.tax for one in times]
    return (
        f"{case.batch} sequences of {case.prompt} + {case.answer} tokens; ms a token: plain "
        f"{plain:.2f}, recorded {recorded:.2f}, verified {verified:.2f}; {min(taxes):.2f} to "
        f"{max(taxes):.2f}; cited: CommitLLM 1.12 to 1.14, EZKL 10⁵ to 10⁷"
    )
