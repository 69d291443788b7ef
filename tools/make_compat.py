"""Write what this version leaves on disks, for later versions to read: `tests/compat/VERSION/`.

Run `python tools/make_compat.py FOLDER` once, when a version is released, with the code of that
version; never over a folder that is there, nor to make a failing test pass. The keys in it are
made for it and guard nothing.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "simulators"))

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: E402
from replay_world import job, world  # noqa: E402
from sealed_world import numbers, write_model  # noqa: E402
from typer.testing import CliRunner  # noqa: E402

from tidegate.cli.main import app  # noqa: E402
from tidegate.clock import ManualClock  # noqa: E402
from tidegate.ledger import Budget, Budgets, Ledger, SqliteStore  # noqa: E402
from tidegate.ledger.budgets import TOTAL, edge_scope, principal_scope  # noqa: E402
from tidegate.transparency.note import Signer  # noqa: E402
from tidegate.units import Bits, Seconds  # noqa: E402

EDGE = "inner→outside"
BUDGETS = Budgets(
    name="kept", total=Budget(lifetime=10_000), edges=((EDGE, Budget()),), principal=Budget()
)


def record(folder: Path) -> dict[str, Any]:
    """Answers of a small exact model, and the model that re-executes them."""
    made = world(folder)
    made.serve([job(f"r{n}", tokens=10, ignore_eos=True) for n in range(4)])
    made.key  # noqa: B018  writes the public key beside it
    return {"answers": {name: list(ids) for name, ids in made.answers.items()}}


def ledger(folder: Path) -> dict[str, Any]:
    """One ledger with every command in it, one lease still open, and its signed checkpoint."""
    folder.mkdir()
    clock = ManualClock()
    signer = Signer("example.com/ledger", Ed25519PrivateKey.from_private_bytes(b"k" * 32))
    with closing(SqliteStore(folder / "ledger.sqlite")) as store:
        book = Ledger(store, BUDGETS, clock)
        first = book.extend(book.reserve("alice", EDGE, Bits(500)), Bits(100))
        book.commit(first, Bits(420))
        clock.advance(Seconds(60.0))
        book.release(book.reserve("bob", EDGE, Bits(300)))
        book.recover(book.reserve("bob", EDGE, Bits(200)), Bits(200), "its writer ended")
        book.charge("alice", EDGE, Bits(8), "replay_mismatch")
        book.top_up(principal_scope("alice"), Bits(50), "approved by the owners")
        book.reserve("alice", EDGE, Bits(64))
        (folder / "checkpoint").write_text(book.checkpoint(signer))
        (folder / "key.pub").write_text(signer.verifier.encode() + "\n")
        scopes = (TOTAL, principal_scope("alice"), principal_scope("bob"), edge_scope(EDGE))
        return {
            str(scope): [book.balance(scope).spent, book.balance(scope).reserved]
            for scope in scopes
        }


def log(folder: Path) -> dict[str, Any]:
    """A transparency log with an entry of each kind that needs no other system, and a proof."""
    _run("log", "init", folder, "--origin", "log.example/vault")
    for n in range(3):
        _run("log", "append", folder, "grant", "-", data=json.dumps({"event": "request", "n": n}))
    _run("log", "prove", folder, "1", "--out", folder / "1.tlog-proof")
    return {"entries": 3}


def sealed(folder: Path) -> dict[str, Any]:
    """A sealed model, and what its files are when it is opened."""
    folder.mkdir()
    model = write_model(folder / "model", {"embed": numbers("embed", 20_000).reshape(2, -1)})
    kms = f"local:{folder / 'kms'}"
    _run("vault", "kms", "create", kms)
    _run(
        *("vault", "seal", model, folder / "sealed", "--model-id", "example/small", "--kms", kms),
        *("--signing-key", folder / "owner", "--signer-name", "owner.example/weights"),
    )
    (folder / "owner").unlink()
    plain = {
        path.relative_to(model).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(model.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    }
    shutil.rmtree(model)
    return plain


def _run(*words: object, data: str | None = None) -> None:
    done = CliRunner().invoke(app, [str(word) for word in words], input=data)
    if done.exit_code:
        raise SystemExit(f"{words}: {done.output}{done.exception}")


def main(out: Path) -> None:
    if out.exists():
        raise SystemExit(f"{out} is there: what a version wrote is never written anew")
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / out.name
        made.mkdir()
        told = {make.__name__: make(made / make.__name__) for make in (record, ledger, log, sealed)}
        (made / "told.json").write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n")
        # Not what SQLite and the simulators leave behind.
        left = shutil.ignore_patterns("*-journal", "*.lock", "model-words")
        shutil.copytree(made, out, ignore=left)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
