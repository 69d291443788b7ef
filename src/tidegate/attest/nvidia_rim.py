"""Reference values for NVIDIA devices: RIM documents (TCG Reference Integrity Manifest). Pure.

A document is ISO 19770-2 in XML with an enveloped XML signature. What reads it needs packages that
nothing else here does, so it is loaded only where there is one to read.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType

from tidegate.attest.certificates import Certificate
from tidegate.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Rim:
    """A RIM as it says itself; nothing of it counts before `signed_by_leaf`.

    `version`: of the driver or firmware it describes. `measurements`: by index from 0, the values
    that a device may measure there; those that the maker marked as not active are left out.
    `certificates`: the signer's, then the rest of its chain, as they came with the document.
    """

    product: str
    version: str
    measurements: tuple[tuple[int, frozenset[bytes]], ...]
    certificates: tuple[Certificate, ...]
    data: bytes


def parse_rim(data: bytes) -> Rim:
    """A RIM from its XML. Raises `EvidenceError` for anything else."""
    found: Rim = _reader().parse_rim(data)
    return found


def signed_by_leaf(rim: Rim) -> bool:
    """Whether the first certificate's key signed what was read. Its chain is not looked at."""
    return bool(_reader().signed_by_leaf(rim))


def _reader() -> ModuleType:
    try:
        from tidegate.attest import nvidia_rim_xml
    except ImportError as error:
        raise ConfigError("NVIDIA's reference values need tidegate[vault].") from error
    return nvidia_rim_xml
