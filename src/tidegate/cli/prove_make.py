"""What `tidegate prove` does with models: keys, commitments, replays. Chooses the adapters."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tidegate.errors import ConfigError
from tidegate.models import tokenizer
from tidegate.models.cache import Progress
from tidegate.models.exact.backends import default_threads
from tidegate.models.exact.format import read
from tidegate.models.exact.load import model_of
from tidegate.models.exact.parameters import parameters_of
from tidegate.models.exact.selftest import choose
from tidegate.models.exact.source import Source, open_source
from tidegate.models.prepared import Dtype, prepare
from tidegate.models.tokenizer import FileTokenizer
from tidegate.prove import files, keyfile, keys, merkle, monitor, receipt
from tidegate.prove.answer import Answer
from tidegate.prove.produce import Prover, generate
from tidegate.prove.replay import replay
from tidegate.prove.statement import NONCE_BYTES, Request, Statement, decode_request, encode
from tidegate.prove.tiers import MEANING, Tier
from tidegate.prove.verdict import Verdict
from tidegate.sampling.finish import Limits
from tidegate.sampling.params import SamplingParams
from tidegate.sampling.seed import SEED_BYTES
from tidegate.transparency.note import Signer, Verifier

Summary = dict[str, str | int]

_MONITORED_CONTEXT = 8192


@dataclass(frozen=True, slots=True)
class Asked:
    """A request's file, or what to make one up from."""

    file: Path | None
    prompt: str
    max_tokens: int
    temperature: float
    stop: tuple[str, ...]

    def request(self, words: FileTokenizer) -> Request:
        """The request. Raises ConfigError for a malformed file."""
        if self.file is not None:
            return decode_request(self.file.read_bytes())
        return Request(
            nonce=secrets.token_bytes(NONCE_BYTES),
            seed=secrets.token_bytes(SEED_BYTES),
            prompt_ids=tuple(words.chat([{"role": "user", "content": self.prompt}])),
            params=SamplingParams(temperature=self.temperature),
            limits=Limits(max_tokens=self.max_tokens, stop=self.stop),
        )


def make_key(model: str, tier: Tier, dtype: str, progress: Progress) -> bytes:
    """A key file for a model. Raises ConfigError for a tier without keys."""
    if tier is Tier.FREIVALDS:
        return keys.generate(read(Path(model)), progress=progress)
    if tier is Tier.PROJECT:
        return monitor.generate(_source(model), _dtype(dtype), progress=progress)
    raise ConfigError(f"{MEANING[tier].title} has no key; choose freivalds or project")


def rotated_key(raw: bytes, model: str, progress: Progress) -> bytes:
    """The key that replaces the one in `raw`, of the same tier."""
    if raw.startswith(monitor.MAGIC):
        return monitor.rotate(raw, _source(model), progress)
    return keys.rotate(raw, read(Path(model)), progress)


def describe_key(path: Path) -> Summary:
    """What a key file is for. Raises UnverifiableError where it is damaged."""
    raw = keyfile.read(path)
    if raw.startswith(monitor.MAGIC):
        watch = monitor.decode(raw)
        subject, generation, secret = watch.subject, watch.generation, watch.projected_bytes
        tier = Tier.PROJECT
    else:
        key = keys.decode(raw)
        subject, generation, secret = key.subject, key.generation, key.column_bytes
        tier = Tier.FREIVALDS
    return {
        "tier": MEANING[tier].title,
        "generation": generation,
        "engine": subject.engine,
        "weights": subject.weights.hex(),
        "config": subject.config.hex(),
        "tokenizer": subject.tokenizer.hex(),
        "key_bytes": secret,
        "file_bytes": len(raw),
    }


def signer_of(path: Path, name: str) -> Signer:
    """The prover's signing key, and its public half beside it; both are made on first use.

    Raises ConfigError for a file that is no key.
    """
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = f"{name} {secrets.token_hex(32)}\n"
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as handle:
            handle.write(fresh)
    try:
        called, _, secret = path.read_text().strip().partition(" ")
        signer = Signer(called, Ed25519PrivateKey.from_private_bytes(bytes.fromhex(secret)))
    except ValueError as error:
        raise ConfigError(f"{path} is no signing key: a name, a space, 64 hex digits") from error
    path.with_name(path.name + ".pub").write_text(signer.verifier.encode() + "\n")
    return signer


def commit(
    model: str,
    out: Path,
    signer: Signer,
    asked: Asked,
    tier: Tier,
    threads: int | None,
    progress: Progress,
) -> Summary:
    """Answer a request and write the proof's folder."""
    makers: dict[Tier, Callable[..., Statement]] = {
        Tier.RECEIPT: _commit_exact,
        Tier.FREIVALDS: _commit_exact,
        Tier.PROJECT: _commit_float,
    }
    if tier not in makers:
        raise ConfigError(f"nothing can be committed to for {MEANING[tier].title}")
    with files.making(out) as folder:
        statement = makers[tier](model, folder, signer, asked, tier, threads, progress)
        (folder / files.STATEMENT).write_bytes(encode(statement))
    return {
        "proof": str(out),
        "tier": MEANING[tier].title,
        "prompt_tokens": len(statement.request.prompt_ids),
        "answer_tokens": len(statement.tokens),
        "reason": statement.reason,
        "bytes": sum(file.stat().st_size for file in out.iterdir()),
    }


def _commit_exact(
    model: str,
    folder: Path,
    signer: Signer,
    asked: Asked,
    tier: Tier,
    threads: int | None,
    progress: Progress,
) -> Statement:
    converted = read(Path(model))
    words = tokenizer.load(converted.folder)
    request = asked.request(words)
    engine = model_of(converted, threads=threads)
    root = None
    if tier is Tier.RECEIPT:
        statement = generate(engine, [request], words.decode, progress)[0]
    else:
        with files.TraceWriter(folder) as sink:
            prover = Prover(engine, converted.shape)
            produced = prover.produce([request], words.decode, [sink], progress)[0]
        statement, root = produced.statement, produced.root
        rows = keys.embedding_rows(converted)
        fed = (*request.prompt_ids, *statement.tokens[:-1])
        opened = merkle.opened(rows, keys.row_tree(rows), fed)
        (folder / files.EMBEDDING).write_bytes(opened)
    note = receipt.make(statement, keys.subject_of(converted), tier=tier, trace=root)
    (folder / files.RECEIPT).write_text(receipt.sign(note, signer))
    return statement


def _commit_float(
    model: str,
    folder: Path,
    signer: Signer,
    asked: Asked,
    tier: Tier,
    threads: int | None,
    progress: Progress,
) -> Statement:
    # Imported here: torch takes seconds to load, and the other tiers do without it.
    from tidegate.models import transformers_torch
    from tidegate.prove.project_torch import record

    source = _source(model)
    server = transformers_torch.load(source.folder, threads=threads)
    dtype = _dtype(server.describe().numerics.partition(",")[0])
    words = source.tokenizer
    request = asked.request(words)
    progress("generating", 0, 1)
    statement, trace = record(server, source.shape, request, words.decode)
    progress("generating", 1, 1)
    packed = monitor.pack(trace)
    fresh = Answer(request, source.shape.vocab_size, words.eos_ids, words.decode)
    rows = monitor.head_rows(source, dtype)
    wanted = monitor.wanted_rows(trace, source.shape, statement, fresh)
    (folder / files.FLOAT_TRACE).write_bytes(packed)
    (folder / files.HEAD_ROWS).write_bytes(merkle.opened(rows, keys.row_tree(rows), wanted))
    note = receipt.make(
        statement,
        monitor.subject_of(source, dtype),
        tier=tier,
        trace=hashlib.sha256(packed).digest(),
    )
    (folder / files.RECEIPT).write_text(receipt.sign(note, signer))
    return statement


class Replayer:
    """Runs answers again with the weights of a converted folder."""

    def __init__(
        self,
        model: str,
        trusted: Verifier,
        share: float,
        secret: bytes,
        threads: int | None,
        progress: Progress,
    ) -> None:
        converted = read(Path(model))
        self._subject = keys.subject_of(converted)
        self._parameters = parameters_of(converted.shape, converted.tensors)
        self._engine = choose(
            self._parameters, converted.tensors, threads=threads or default_threads()
        )
        self._eos_ids = tokenizer.eos_ids_of(converted.folder)
        self._words = tokenizer.load(converted.folder)
        self._trusted = trusted
        self._share = share
        self._secret = secret
        self._progress = progress

    def run(self, proof: Path, statement: Statement) -> Verdict:
        """The verdict on one proof."""
        with files.reading_hashes(proof) as hashes:
            return replay(
                files.read_note(proof),
                hashes,
                statement,
                self._trusted,
                subject=self._subject,
                parameters=self._parameters,
                linear=self._engine.linear,
                ops_of=lambda _: self._engine.ops,
                eos_ids=self._eos_ids,
                detokenise=self._words.decode,
                share=self._share,
                secret=self._secret,
                progress=self._progress,
            )


def _source(model: str) -> Source:
    return open_source(prepare(model), _MONITORED_CONTEXT)


def _dtype(name: str) -> Dtype:
    if name not in ("bfloat16", "float32"):
        raise ConfigError(f"there is no type {name!r}; choose bfloat16 or float32")
    return "bfloat16" if name == "bfloat16" else "float32"
