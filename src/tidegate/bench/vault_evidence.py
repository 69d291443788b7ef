"""Evidence that real machines gave: does each file give its stated result, flipped or not?

The files are not part of the project: they lie beside it, where whoever has them put them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

from tidegate.attest.appraisal import Appraisal, Setting
from tidegate.attest.certificates import pem_blocks
from tidegate.attest.errors import EvidenceError
from tidegate.attest.kinds import Companions, kind_named
from tidegate.attest.outcome import Pass, Word, word
from tidegate.attest.sections import Section
from tidegate.bench.figures import Figure, at_most
from tidegate.errors import ConfigError
from tidegate.models.cache import Progress

FOLDER: Final = Path(__file__).parents[4] / "shared" / "data" / "evidence"
"""Where genuine evidence lies, if it does: beside the project's checkout."""

Given = Word | Literal["malformed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """One host's evidence with what came along."""

    evidence: bytes
    certificates: tuple[bytes, ...] = ()
    others: tuple[bytes, ...] = ()
    crls: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Flip:
    """The same files with one bit of `field` turned."""

    field: str
    files: Files


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Genuine files, what they are held against, and what must come of it.

    `policy`: the section of the policy. `unsigned`: fields that nobody signed and whose change is
    not noticed; `why`: what the case shows.
    """

    name: str
    kind: str
    why: str
    load: Callable[[Path], Files]
    policy: Section
    nonce: bytes | None
    want: Given
    at: datetime = datetime(2025, 6, 20, tzinfo=UTC)
    revocation: bool = False
    roots: frozenset[bytes] | None = None
    flips: Callable[[Files], Iterator[Flip]] | None = None
    unsigned: frozenset[str] = frozenset()


def outcome_of(case: Case, files: Files) -> Given:
    """What comes of those files under the case's policy and hour."""
    try:
        return word(appraisal_of(case, files).outcome)
    except EvidenceError:
        return "malformed"


def passed_checks(case: Case, files: Files) -> frozenset[str]:
    """The checks that pass, those of parts named with their place; none of what is malformed."""
    try:
        return frozenset(_passed(appraisal_of(case, files), ""))
    except EvidenceError:
        return frozenset()


def _passed(appraisal: Appraisal, place: str) -> Iterator[str]:
    for check in appraisal.checks:
        if isinstance(check.outcome, Pass):
            yield place + check.name
    for number, part in enumerate(appraisal.parts):
        yield from _passed(part, f"{place}{number}: ")


def appraisal_of(case: Case, files: Files) -> Appraisal:
    """The files appraised under the case's policy and hour. Raises `EvidenceError`."""
    kind = kind_named(case.kind)
    if kind is None:
        raise ConfigError(f"There is no kind of evidence called {case.kind}.")
    setting = Setting(
        now=case.at,
        nonce=case.nonce,
        roots=kind.roots if case.roots is None else case.roots,
        crls=files.crls,
        revocation=case.revocation,
    )
    along = Companions(files.certificates, files.others)
    return kind.appraise(files.evidence, along, case.policy, setting)


def flipped_bytes(name: str, data: bytes, stride: int = 1) -> Iterator[tuple[str, bytes]]:
    """The data with one bit turned in every byte (or every so many), named by place."""
    for at in range(0, len(data), stride):
        changed = bytearray(data)
        changed[at] ^= 1 << at % 8
        yield f"{name}[{at}]", bytes(changed)


def flipped_fields(
    layout: Mapping[str, int], data: bytes, prefix: str = ""
) -> Iterator[tuple[str, bytes]]:
    """The data with one bit turned in every byte of every field; layout: name -> size, in order."""
    at = 0
    for name, size in layout.items():
        for _, part in flipped_bytes(name, data[at : at + size]):
            yield f"{prefix}{name}", data[:at] + part + data[at + size :]
        at += size
    if at != len(data):
        raise ConfigError(f"The layout has {at} bytes, the evidence {len(data)}.")


def flipped_der(name: str, der: bytes) -> Iterator[tuple[str, bytes]]:
    """DER with a bit turned in every tag, every length, and both ends of every value."""
    for place, offset in _places(der, 0, len(der)):
        changed = bytearray(der)
        changed[offset] ^= 1 << offset % 8
        yield f"{name} {place}", bytes(changed)


def _places(der: bytes, start: int, end: int) -> Iterator[tuple[str, int]]:
    """Offsets of every element's tag, length and ends, in depth."""
    at = start
    while at < end:
        tag, size, body = der[at], der[at + 1], at + 2
        if size >= 0x80:
            body += size & 0x7F
            size = int.from_bytes(der[at + 2 : body], "big")
        yield f"tag at {at}", at
        for offset in range(at + 1, body):
            yield f"length at {offset}", offset
        if tag & 0x20:
            yield from _places(der, body, body + size)
        elif size:
            yield f"value at {body}", body
            yield f"value at {body + size - 1}", body + size - 1
        at = body + size


def flipped_certificates(files: Files) -> Iterator[Flip]:
    """The files with one field of one of their certificates turned."""
    for number, data in enumerate(files.certificates):
        is_der = data[:1] == b"\x30"
        blocks = (data,) if is_der else pem_blocks(data, b"CERTIFICATE", "certificates")
        for place, block in enumerate(blocks):
            for field, der in flipped_der(f"certificate {number}.{place}", block):
                others = (*blocks[:place], der, *blocks[place + 1 :])
                kept = files.certificates[:number], files.certificates[number + 1 :]
                yield Flip(field, replace(files, certificates=(*kept[0], *others, *kept[1])))


def flipped_evidence(files: Files, parts: Iterator[tuple[str, bytes]]) -> Iterator[Flip]:
    """The files with the evidence itself changed."""
    for field, evidence in parts:
        yield Flip(field, replace(files, evidence=evidence))


def cases() -> tuple[Case, ...]:
    """Every genuine case of every maker."""
    from tidegate.bench import vault_evidence_amd, vault_evidence_intel, vault_evidence_nvidia

    return (
        *vault_evidence_amd.CASES,
        *vault_evidence_intel.CASES,
        *vault_evidence_nvidia.CASES,
    )


def accepted_flips(case: Case, flips: Iterable[Flip], files: Files) -> set[str]:
    """Fields that were turned without any check noticing, other than those known to be unsigned.

    A check notices where it passes for the files as they are and does not for the turned ones. So
    turning a field is also seen to be noticed in evidence that cannot pass, because something that
    it needs is not among the files.
    """
    genuine = passed_checks(case, files)
    return {
        flip.field
        for flip in flips
        if flip.field not in case.unsigned and genuine <= passed_checks(case, flip.files)
    }


def measure(progress: Progress) -> dict[str, Figure]:
    """Genuine evidence that gave another result than stated, and flips that went through.

    Raises `ConfigError` where the genuine files are not there.
    """
    if not FOLDER.is_dir():
        raise ConfigError(f"The genuine evidence is not there: {FOLDER.name} beside the checkout.")
    every = cases()
    wrong = flips = accepted = 0
    for number, case in enumerate(every):
        progress("genuine evidence", number, len(every))
        files = case.load(FOLDER)
        wrong += outcome_of(case, files) != case.want
        if case.flips is not None:
            flips += sum(1 for _ in case.flips(files))
            accepted += len(accepted_flips(case, case.flips(files), files))
    progress("genuine evidence", len(every), len(every))
    return {
        "evidence_wrong": at_most(
            wrong, 0, unit="cases", n=len(every), how="genuine evidence against its stated result"
        ),
        "evidence_fields_flipped_accepted": at_most(
            accepted, 0, unit="flips", n=flips, how="one bit turned in every field of every file"
        ),
    }
