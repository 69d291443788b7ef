"""Write spec/vectors/log.json from the code: entries, trees, tiles, notes, cosignatures, witnesses.

Run `python tools/make_log_vectors.py` after a change of format, and never to make a failing test
pass: the file is what other implementations are held to.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from log_vectors import (
    ConsistencyCase,
    CosignatureCase,
    EntryCase,
    InclusionCase,
    LogFile,
    MarkCase,
    PolicyCase,
    ProofCase,
    RefusedCase,
    TileCase,
    TreeCase,
    WitnessCase,
)
from vector_files import lines

from tidegate.clock import ManualClock
from tidegate.transparency.cosign import Algorithm, Cosigner
from tidegate.transparency.entry import Entry, Kind, encode
from tidegate.transparency.errors import CheckpointError
from tidegate.transparency.log import Log
from tidegate.transparency.note import Checkpoint, Signer, b64
from tidegate.transparency.policy import Policy, TrustedLog, Witness, n_of
from tidegate.transparency.proof import Proof
from tidegate.transparency.store import Row
from tidegate.transparency.store_memory import MemoryStore
from tidegate.transparency.tiles import Tile, read
from tidegate.transparency.tree import Frontier, completed, grow, leaf_hash
from tidegate.transparency.witness import AddCheckpoint
from tidegate.transparency.witness_anchor import MemoryAnchor
from tidegate.transparency.witness_service import WitnessService
from tidegate.transparency.witness_store_memory import MemoryWitnessStore

VECTORS = Path(__file__).parents[1] / "spec" / "vectors"
ORIGIN = "log.example/vault"
SIGNER = Signer(ORIGIN, Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"log").digest()))
TIME = 1_700_000_000
TREE = 300


def witness_key(number: int, algorithm: Algorithm = Algorithm.ED25519) -> Cosigner:
    """Witness `number` of the vectors."""
    seed = hashlib.sha256(f"witness {number} {algorithm.name}".encode()).digest()
    return Cosigner(f"w{number}.example", seed, algorithm)


class TextLog(Log):
    """The tree of the vectors: its entries are plain text, so that anybody can make them."""

    def __init__(self, size: int, words: str = "entry") -> None:
        store = MemoryStore()
        frontier: Frontier = ()
        for n in range(size):
            raw = f"{words} {n}".encode()
            leaf = leaf_hash(raw)
            hashes = b"".join(completed(frontier, n, leaf))
            store.append(store.tip(), [Row(raw, None, hashes)])
            frontier = grow(frontier, n, leaf)
        super().__init__(store, ManualClock())

    def note(self, size: int) -> str:
        """Its signed checkpoint at `size`."""
        return SIGNER.sign(Checkpoint(ORIGIN, size, self.root(size)))


LOG = TextLog(TREE)


def _entries() -> list[EntryCase]:
    made = [
        ("A grant's event, of which the log takes one.", Kind.GRANT, {"n": 4}, "grant/4"),
        (
            "Members of any order and depth are sorted.",
            Kind.RELEASE,
            {"b": {"d": 1, "c": []}, "a": None},
            "",
        ),
        (
            "The largest number, and the smallest.",
            Kind.UPLOAD,
            {"most": 2**53 - 1, "least": 1 - 2**53},
            "",
        ),
        (
            "Text is UTF-8; only what JSON must escape is escaped.",
            Kind.VERDICT,
            {"text": 'é→"\\\n\u0001'},
            "",
        ),
    ]
    raws = [
        (note, encode(Entry(kind=kind, time=TIME * 1000, body=body, id=once)))
        for note, kind, body, once in made
    ]
    return [EntryCase(note, raw.decode(), leaf_hash(raw).hex()) for note, raw in raws]


def _refused() -> list[RefusedCase]:
    good = '{"body":{"a":1,"b":"x"},"id":"","kind":"grant","time":1,"v":1}'
    return [
        RefusedCase("A space too many.", good.replace(":", ": ", 1)),
        RefusedCase("Members out of order.", good.replace('"a":1,"b":"x"', '"b":"x","a":1')),
        RefusedCase("A member twice.", good.replace('"a":1', '"a":1,"a":1')),
        RefusedCase("A number with a fraction.", good.replace('"a":1', '"a":1.0')),
        RefusedCase("A number beyond 2^53 - 1.", good.replace('"a":1', '"a":9007199254740992')),
        RefusedCase("A key that is not plain ASCII.", good.replace('"b"', '"é"')),
        RefusedCase("An escape where none is needed.", good.replace('"x"', '"\\u0078"')),
        RefusedCase("A kind that does not exist.", good.replace('"grant"', '"gift"')),
        RefusedCase("A member that an entry does not have.", good[:-1] + ',"w":1}'),
        RefusedCase("Another version.", good.replace('"v":1', '"v":2')),
    ]


def _tiles() -> list[TileCase]:
    wanted = [
        ("A full tile of leaf hashes.", Tile(0, 0)),
        ("A partial one.", Tile(0, 1, 44)),
        ("The one hash a level up.", Tile(1, 0, 1)),
        ("A full bundle of entries.", Tile(None, 0)),
        ("A partial one.", Tile(None, 1, 44)),
    ]
    cases = [(note, tile.path(), read(LOG, tile)) for note, tile in wanted]
    return [
        TileCase(note, path, len(raw), hashlib.sha256(raw).hexdigest()) for note, path, raw in cases
    ]


def _cosignatures() -> list[CosignatureCase]:
    note = LOG.note(7)
    text = note.partition("\n\n")[0] + "\n"
    one, other = witness_key(1), witness_key(2)
    key = one.public.encode()
    lattice = witness_key(1, Algorithm.ML_DSA_44)
    wrong = one.cosign(Checkpoint(ORIGIN, 8, LOG.root(8)).text(), TIME)
    zero = note + "— w1.example " + _stamped(one, text)
    return [
        CosignatureCase("An Ed25519 cosignature.", key, note + one.cosign(text, TIME), TIME),
        CosignatureCase(
            "An ML-DSA-44 cosignature.",
            lattice.public.encode(),
            _lattice(lattice, note, text),
            TIME,
        ),
        CosignatureCase(
            "Others' are passed by, and the latest of one's own counts.",
            key,
            note
            + other.cosign(text, TIME + 9)
            + one.cosign(text, TIME)
            + one.cosign(text, TIME - 9),
            TIME,
        ),
        CosignatureCase("Of another tree.", key, note + wrong, None),
        CosignatureCase(
            "A wrong one beside a right one.", key, note + one.cosign(text, TIME) + wrong, None
        ),
        CosignatureCase("Dated 1970-01-01 00:00:00.", key, zero, None),
    ]


def _stamped(one: Cosigner, text: str) -> str:
    key = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"witness 1 ED25519").digest())
    signed = key.sign(f"cosignature/v1\ntime 0\n{text}".encode())
    return b64(one.public.key_id + bytes(8) + signed) + "\n"


def _lattice(cosigner: Cosigner, note: str, text: str) -> str:
    """The published note if it is right: these signatures are not the same twice."""
    path = VECTORS / "log.json"
    if path.exists():
        kept = msgspec.json.decode(path.read_bytes(), type=LogFile)
        for case in kept.cosignatures:
            try:
                if case.note == "An ML-DSA-44 cosignature." and cosigner.public.find(case.signed):
                    return case.signed
            except CheckpointError:
                break
    return note + cosigner.cosign(text, TIME)


def _policies() -> list[PolicyCase]:
    log = f"log {SIGNER.verifier.encode()}\n"
    named = "".join(f"witness w{n} {witness_key(n).public.encode()}\n" for n in (1, 2, 3))
    return [
        PolicyCase("Nobody is asked.", log + "quorum none\n", [([], True)]),
        PolicyCase(
            "Two of three.",
            log + named + "group trio 2 w1 w2 w3\nquorum trio\n",
            [([], False), (["w1"], False), (["w1", "w3"], True), (["w1", "w2", "w3"], True)],
        ),
        PolicyCase(
            "One of two, and a third in any case.",
            log + named + "group pair any w1 w2\ngroup both all pair w3\nquorum both\n",
            [(["w1", "w2"], False), (["w3"], False), (["w2", "w3"], True)],
        ),
        PolicyCase("No quorum line.", log + named, [], refused=True),
        PolicyCase(
            "A group before its member.",
            log + "group g 1 w1\n" + named + "quorum g\n",
            [],
            refused=True,
        ),
        PolicyCase(
            "A witness counted twice.",
            log + named + "group g 2 w1 w1\nquorum g\n",
            [],
            refused=True,
        ),
        PolicyCase(
            "More than there are.", log + named + "group g 4 w1 w2 w3\nquorum g\n", [], refused=True
        ),
    ]


def _requests() -> list[tuple[str, bytes]]:
    fork = TextLog(9, "other")

    def ask(log: TextLog, old: int, size: int) -> bytes:
        return AddCheckpoint(old, log.consistency(old, size), log.note(size)).encode()

    stranger = Signer("else.example", Ed25519PrivateKey.from_private_bytes(bytes(32)))
    unknown = AddCheckpoint(0, (), stranger.sign(Checkpoint(stranger.name, 1, bytes(32)))).encode()
    forged = ask(LOG, 4, 9).replace(b"\n9\n", b"\n8\n")
    return [
        ("A log that the witness does not know.", unknown),
        ("Not a request.", b"old\n\n"),
        ("The first checkpoint is taken on trust.", ask(LOG, 0, 4)),
        ("The same again.", ask(LOG, 4, 4)),
        ("From a size that it does not keep: it says which it keeps.", ask(LOG, 3, 9)),
        ("A signature that does not fit.", forged),
        ("Another tree of the size it keeps.", ask(fork, 4, 4)),
        ("A larger tree of another history.", ask(fork, 4, 9)),
        ("A size larger than the tree.", AddCheckpoint(9, (), LOG.note(4)).encode()),
        ("A proof too short.", AddCheckpoint(4, LOG.consistency(4, 9)[1:], LOG.note(9)).encode()),
        ("The tree grew, and the proof shows it.", ask(LOG, 4, 9)),
        ("A smaller one, after that.", ask(LOG, 4, 7)),
    ]


def _witness() -> tuple[list[WitnessCase], list[MarkCase]]:
    store, anchor = MemoryWitnessStore(), MemoryAnchor()
    service = WitnessService(
        [witness_key(1)], {ORIGIN: [SIGNER.verifier]}, store, anchor, ManualClock(TIME)
    )
    cases, marks = [], []
    for note, raw in _requests():
        reply = service.add_checkpoint(raw)
        size = raw.decode().partition("\n\n")[2].split("\n")[1:2]
        answer = size[0] if reply.status == 200 else reply.body
        cases.append(WitnessCase(note, raw.decode(), reply.status, answer))
        seen = store.seen(ORIGIN)
        if reply.status == 200 and seen is not None:
            number, head = store.mark()
            marks.append(MarkCase(note, seen.note, seen.time, number, head.hex()))
    return cases, marks


def _proofs() -> list[ProofCase]:
    trusted = TrustedLog(SIGNER.verifier)
    witnesses = tuple(Witness(f"w{n}", witness_key(n).public) for n in (1, 2))
    one, two = (n_of(trusted, witnesses, n).encode() for n in (1, 2))
    note = LOG.note(9)
    signed = note + witness_key(1).cosign(note.partition("\n\n")[0] + "\n", TIME)
    proof = Proof(5, LOG.inclusion(5, 9), signed).encode()
    return [
        ProofCase("In the tree, with enough witnesses.", one, proof, "entry 5", "pass"),
        ProofCase(
            "One witness of the two that are needed.", two, proof, "entry 5", "cannot_verify"
        ),
        ProofCase("Of another entry.", one, proof, "entry 6", "fail"),
        ProofCase("At another place.", one, proof.replace("index 5", "index 6"), "entry 5", "fail"),
        ProofCase("Of a log that is not trusted.", Policy(()).encode(), proof, "entry 5", "fail"),
    ]


def log_file() -> LogFile:
    """All cases."""
    sizes = [0, 1, 2, 3, 7, 8, 255, 256, 257, 300]
    places = [(0, 1), (0, 8), (6, 7), (5, 9), (255, 256), (256, 300), (299, 300)]
    growths = [(1, 2), (3, 7), (4, 8), (7, 7), (6, 300), (256, 300), (257, 300)]
    cases, marks = _witness()
    return LogFile(
        SIGNER.verifier.encode(),
        witness_key(1).public.encode(),
        _entries(),
        _refused(),
        [TreeCase(f"The first {size} leaves.", size, LOG.root(size).hex()) for size in sizes],
        [
            InclusionCase(
                f"Leaf {n} of {size} leaves.", n, size, [p.hex() for p in LOG.inclusion(n, size)]
            )
            for n, size in places
        ],
        [
            ConsistencyCase(
                f"From {old} to {new} leaves.",
                old,
                new,
                [p.hex() for p in LOG.consistency(old, new)],
            )
            for old, new in growths
        ],
        _tiles(),
        _cosignatures(),
        _policies(),
        cases,
        marks,
        _proofs(),
    )


def build() -> dict[str, bytes]:
    """Contents by file name."""
    schema = msgspec.json.format(msgspec.json.encode(msgspec.json.schema(LogFile)), indent=2)
    return {"log.json": lines(log_file()), "log.schema.json": schema + b"\n"}


if __name__ == "__main__":
    for name, content in build().items():
        (VECTORS / name).write_bytes(content)
