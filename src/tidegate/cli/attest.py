"""`tidegate attest`: hold a host's hardware evidence against a policy, check by check."""

from __future__ import annotations

import sys
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from tidegate.clock import SystemClock
from tidegate.errors import ConfigError

if TYPE_CHECKING:
    from tidegate.attest.appraisal import Setting
    from tidegate.attest.kinds import Kind
    from tidegate.cli.attest_files import Sorted

MOST_BYTES = 1 << 24


def attest(
    files: Annotated[
        list[Path],
        typer.Argument(
            exists=True,
            dir_okay=False,
            help="One file of evidence and what came along: certificates, revocation lists, "
            "collateral, reference manifests, in any order.",
        ),
    ],
    policy: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="Reference values, as TOML."),
    ] = None,
    nonce: Annotated[
        str | None, typer.Option(metavar="HEX", help="What the host was asked to bind.")
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(help="Of the evidence, where it is not recognised: snp, tpm, tdx, ..."),
    ] = None,
    at: Annotated[
        datetime | None,
        typer.Option(
            formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"], help="Appraise as of then (UTC), not now."
        ),
    ] = None,
    root: Annotated[
        list[Path] | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            help="A root certificate to trust in place of the makers'; may be repeated.",
        ),
    ] = None,
    revocation: Annotated[
        bool, typer.Option(help="Ask after revocation; the lists are among the files.")
    ] = True,
    bind: Annotated[
        bool,
        typer.Option(
            "--bind",
            help="On a host: print in hex what its CPU has to bind for the devices in the files "
            "and the nonce, and stop.",
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Appraise hardware evidence: AMD SEV-SNP, Azure's VMs, TPM 2.0, Intel TDX and SGX, NVIDIA.

    Evidence is parsed and held against the policy in numbered checks. Exits 0 only where every
    check was made and holds; 1 where one fails; 2 where one could not be made (cannot verify,
    which is never a pass) or the evidence or the policy cannot be read. Fetches nothing. What a
    pass does not show is printed with it, and is in docs/howto/attestation.md.
    """
    from tidegate.attest.outcome import exit_status
    from tidegate.cli import attest_shown
    from tidegate.cli.attest_files import sort_files

    if bind:
        print(_bound([_read(path) for path in files], _challenge(nonce)).hex())
        return
    found = sort_files([_read(path) for path in files], _kind(kind))
    sections = _policy(policy)
    unknown = sorted(set(sections) - {one.section for one in _kinds()})
    if unknown:
        raise ConfigError(f"{policy}: no kind of evidence has a section [{unknown[0]}].")
    section = sections.get(found.kind.section, {})
    if not isinstance(section, dict):
        raise ConfigError(f"{policy}: {found.kind.section} is no section.")
    setting = _setting(found, nonce, at, [_read(path) for path in root or ()], revocation)
    appraisal = found.kind.appraise(found.evidence, found.companions, section, setting)
    if as_json:
        sys.stdout.buffer.write(attest_shown.report(appraisal) + b"\n")
    else:
        attest_shown.show(appraisal, Console())
    raise typer.Exit(exit_status(appraisal.outcome))


def _setting(
    found: Sorted, nonce: str | None, at: datetime | None, trusted: list[bytes], revocation: bool
) -> Setting:
    from tidegate.attest.appraisal import Setting
    from tidegate.attest.certificates import parse_certificates

    challenge = _challenge(nonce)
    now = datetime.fromtimestamp(SystemClock().now(), UTC) if at is None else at
    pins = frozenset(one.key_hash for data in trusted for one in parse_certificates(data))
    return Setting(
        now=now.replace(tzinfo=UTC),
        nonce=challenge,
        roots=pins or found.kind.roots,
        crls=found.crls,
        revocation=revocation,
    )


def _challenge(nonce: str | None) -> bytes | None:
    try:
        return None if nonce is None else bytes.fromhex(nonce)
    except ValueError as error:
        raise ConfigError("--nonce is no hex.", setting="nonce") from error


def _bound(files: list[bytes], nonce: bytes | None) -> bytes:
    """What ties the devices of those files to the CPU of the host that they sit in."""
    from tidegate.attest.host import NONCE, bound_value
    from tidegate.attest.nvidia_evidence import parse_saved

    if nonce is None or len(nonce) != NONCE:
        raise ConfigError(f"--bind needs a --nonce of {NONCE} bytes.", setting="nonce")
    devices = [one for data in files for one in parse_saved(data)]
    if any(one.report.nonce != nonce for one in devices):
        raise ConfigError("A device was asked with another nonce; ask it again.", setting="nonce")
    return bound_value(nonce, devices)


def _policy(path: Path | None) -> dict[str, object]:
    if path is None:
        return {}
    try:
        return tomllib.loads(_read(path).decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is no TOML: {error}") from error


def _kind(name: str | None) -> Kind | None:
    from tidegate.attest.kinds import kind_named

    if name is None:
        return None
    found = kind_named(name)
    if found is None:
        raise ConfigError(f"There is no kind {name!r}; there are {', '.join(_names())}.")
    return found


def _kinds() -> tuple[Kind, ...]:
    from tidegate.attest.kinds import KINDS

    return KINDS


def _names() -> list[str]:
    return [one.name for one in _kinds()]


def _read(path: Path) -> bytes:
    """A file of evidence; one that is too long is not even read."""
    if path.stat().st_size > MOST_BYTES:
        raise ConfigError(f"{path} is longer than {MOST_BYTES >> 20} MiB, which no evidence is.")
    return path.read_bytes()
