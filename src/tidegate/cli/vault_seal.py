"""`tidegate vault seal`, `verify` and `rewrap`: the owner's side of sealed models."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from tidegate.cli.progress import bars
from tidegate.cli.prove_make import signer_of
from tidegate.cli.vault_kms import KMS_HELP, kms_of
from tidegate.errors import ConfigError
from tidegate.transparency.note import Verifier
from tidegate.vault import model_signing
from tidegate.vault.errors import TamperedError
from tidegate.vault.manifest import Manifest
from tidegate.vault.open_memory import in_memory, keep_off_disk
from tidegate.vault.open_sealed import Sealed, open_sealed
from tidegate.vault.rewrap import rewrap as wrap_anew
from tidegate.vault.seal import seal as run
from tidegate.vault.seal_files import read_bytes
from tidegate.vault.seal_plan import SHARD_BYTES

Folder = Annotated[Path, typer.Argument(metavar="SEALED", help="The sealed folder.")]
Owner = Annotated[
    Path,
    typer.Option(
        exists=True, help="The owner's public key, SIGNING_KEY.pub, got by another way than SEALED."
    ),
]
Pinned = Annotated[
    str | None,
    typer.Option(
        "--manifest",
        help="The manifest's digest that is expected, 64 hex digits: an older sealing is refused.",
    ),
]
OfModel = Annotated[
    str | None,
    typer.Option("--model-id", help="The model that is expected: another of its owner is refused."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object, no table.")]
Workers = Annotated[
    int | None,
    typer.Option(min=1, help="Shards at a time, a process each; by default one a processor."),
]
Bundle = Annotated[
    Path | None,
    typer.Option(exists=True, help="An OpenSSF model signature (model.sig), made with a key."),
]
MakersKey = Annotated[
    Path | None, typer.Option(exists=True, help="The key that signed it, a PEM public key.")
]


def seal(
    model: Annotated[
        Path, typer.Argument(exists=True, file_okay=False, help="The model's folder; only read.")
    ],
    sealed: Annotated[
        Path, typer.Argument(help="The folder to make, or to finish after an interruption.")
    ],
    model_id: Annotated[str, typer.Option(help="What grants and keys call the model.")],
    kms: Annotated[str, typer.Option(help=KMS_HELP)],
    signing_key: Annotated[
        Path, typer.Option(help="The owner's signing key; made on first use, with .pub beside it.")
    ],
    signer_name: Annotated[
        str, typer.Option(help="The name a new key signs under, such as example.com/weights.")
    ] = "owner",
    shard_mib: Annotated[
        int, typer.Option(min=1, help="Size of a shard: what a grant can be for, at the least.")
    ] = SHARD_BYTES >> 20,
    digests: Annotated[
        bool,
        typer.Option(
            help="Sign every byte. Without: faster, but whoever has a shard's key can replace it."
        ),
    ] = True,
    model_signature: Bundle = None,
    model_key: MakersKey = None,
    workers: Workers = None,
    as_json: AsJson = False,
) -> None:
    """Encrypt a model's files, shard by shard, each under a key of its own.

    Interrupted, it goes on where it was when it is run again. Files in `model` whose names begin
    with a dot are left out. The plaintext stays where it is: remove it yourself.
    """
    signed = _makers(model_signature, model_key)

    def inspect(manifest: Manifest) -> None:
        if signed is not None:
            model_signing.compare(signed, model, tuple(file.name for file in manifest.files))

    with refusals(), bars() as progress:
        done = run(
            model,
            sealed,
            model=model_id,
            kms=kms_of(kms),
            signer=signer_of(signing_key, signer_name),
            shard_bytes=shard_mib << 20,
            with_digests=digests,
            workers=workers,
            inspect=inspect,
            progress=progress,
        )
    shown = _described(sealed, done.manifest)
    show(f"sealed {model_id}", {**shown, "shards_kept": done.kept}, as_json)


def verify(
    sealed: Folder,
    owner: Owner,
    model_id: OfModel = None,
    manifest: Pinned = None,
    kms: Annotated[str | None, typer.Option(help=KMS_HELP + " Decrypts everything too.")] = None,
    model_signature: Bundle = None,
    model_key: MakersKey = None,
    workers: Workers = None,
    as_json: AsJson = False,
) -> None:
    """Is this what its owner sealed? Without keys: signature, manifest, every byte stored.

    With `--kms`, everything is decrypted in memory as well, and held against `--model-signature`.
    """
    signed = _makers(model_signature, model_key)
    if signed is not None and kms is None:
        raise ConfigError("a model signature is about plaintext: name the key service, --kms")
    with refusals(), bars() as progress:
        opened = opened_folder(sealed, owner, model_id, manifest)
        opened.check_shards(workers=workers, progress=progress)
        if kms is not None:
            keep_off_disk()
            key_of = opened.key_from(kms_of(kms))
            with in_memory(opened, key_of, workers=workers, progress=progress) as folder:
                if signed is not None:
                    names = tuple(file.name for file in opened.manifest.files)
                    model_signing.compare(signed, folder, names)
        every_byte = opened.has_digests()
    shown = _described(sealed, opened.manifest)
    shown["signed"] = "every byte" if every_byte else "keys and sizes only"
    shown["decrypted"] = "yes" if kms else "no"
    show(f"{sealed} is as {opened.seal.model}'s owner sealed it", shown, as_json)


def rewrap(
    sealed: Folder,
    owner: Owner,
    kms: Annotated[str, typer.Option(help=KMS_HELP)],
    to: Annotated[str | None, typer.Option(help="Another key service to move the keys to.")] = None,
) -> None:
    """Wrap the data keys anew, under the newest version or in another key service.

    No shard is touched. Afterwards the old version can be revoked.
    """
    with refusals(), bars() as progress:
        opened = opened_folder(sealed, owner, None, None)
        wrap_anew(opened, kms_of(kms), kms_of(to) if to else None, progress)
    typer.echo(f"{len(opened.manifest.shards)} keys wrapped anew")


def opened_folder(sealed: Path, owner: Path, model: str | None, manifest: str | None) -> Sealed:
    """A sealed folder, its signature checked. Raises ConfigError, VaultError."""
    try:
        digest = None if manifest is None else bytes.fromhex(manifest)
    except ValueError:
        digest = b""
    if digest is not None and len(digest) != 32:
        raise ConfigError("a manifest's digest is 64 hex digits")
    trusted = Verifier.parse(owner.read_text().strip())
    return open_sealed(sealed, trusted, manifest=digest, model=model)


@contextmanager
def refusals() -> Iterator[None]:
    """Ends the command with 1 where something is not as it was sealed."""
    try:
        yield
    except TamperedError as error:
        Console(stderr=True).print(f"[red]refused:[/red] {error.message}", soft_wrap=True)
        raise typer.Exit(1) from error


def show(title: str, values: Mapping[str, str | int | float], as_json: bool) -> None:
    """A table, or a JSON object."""
    if as_json:
        sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(values), indent=1) + b"\n")
        return
    table = Table(title=title, title_justify="left", show_header=False)
    for key, value in values.items():
        table.add_row(key, f"{value:,}" if isinstance(value, int) else str(value))
    Console().print(table)


def _makers(bundle: Path | None, key: Path | None) -> model_signing.Signed | None:
    if (bundle is None) != (key is None):
        raise ConfigError("--model-signature and --model-key go together")
    if bundle is None or key is None:
        return None
    with refusals():
        raw = read_bytes(bundle, model_signing.MAX_BUNDLE_BYTES)
        return model_signing.open_bundle(raw, key.read_bytes())


def _described(sealed: Path, manifest: Manifest) -> dict[str, str | int | float]:
    return {
        "folder": str(sealed),
        "model": manifest.model,
        "manifest": manifest.digest.hex(),
        "files": len(manifest.files),
        "shards": len(manifest.shards),
        "tensors": len(manifest.tensors),
        "bytes": sum(file.size for file in manifest.files),
        "sealed_bytes": sum(path.stat().st_size for path in sealed.iterdir()),
    }
