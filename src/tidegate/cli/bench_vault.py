"""What `tidegate bench vault` measures, a part at a time; each part can run alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tidegate.bench.figures import Figure, Result
from tidegate.cli.bench import AsJson, Only, chosen_of, finish
from tidegate.cli.progress import bars
from tidegate.models.cache import Progress

Part = Callable[[Progress], dict[str, Figure]]


def vault(as_json: AsJson = False, only: Only = None) -> None:
    """Custody: speed of sealing and opening beside peers, and what its checks let through.

    Parts: seal (1 GiB beside Tink streaming and age), evidence (what real machines signed),
    release (releases killed at random moments),
    audit (access logs: speed, ten million events in memory, thieves found, false findings).
    """
    chosen = chosen_of(only, PARTS)
    figures: dict[str, Figure] = {}
    with bars() as progress:
        for name in chosen:
            figures |= PARTS[name](progress)
    finish(Result("vault", figures), as_json)


def seal(progress: Progress) -> dict[str, Figure]:
    """Sealing and opening a model of 1 GiB."""
    from tidegate.bench import vault_seal

    return vault_seal.measure(progress)


def evidence(progress: Progress) -> dict[str, Figure]:
    """Genuine evidence against its stated results, and with every field turned."""
    from tidegate.bench import vault_evidence

    return vault_evidence.measure(progress)


def release(progress: Progress) -> dict[str, Figure]:
    """Releases killed at random moments: whether a key leaves twice."""
    from tidegate.bench import vault_release

    return vault_release.measure(progress)


def audit(progress: Progress) -> dict[str, Figure]:
    """Access logs: speed, memory, what is found how soon, false findings."""
    from tidegate.bench import vault_audit

    return vault_audit.measure(progress)


PARTS: Mapping[str, Part] = {
    "seal": seal,
    "evidence": evidence,
    "release": release,
    "audit": audit,
}
