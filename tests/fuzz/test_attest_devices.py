"""Invariant: whatever bytes are taken for a quote, a report, a document or a token, they give a
value or an `EvidenceError`; and a value that was signed does not survive a change."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import evidence_intel as intel
import evidence_nvidia as nvidia
import make_evidence_vectors as tool
import msgspec
import pytest
from evidence_vectors import EvidenceFile, files_of
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tidegate.attest import dcap_quote, nvidia_report
from tidegate.attest.certificates import parse_certificates
from tidegate.attest.chain import Chain, find_chain
from tidegate.attest.dcap_collateral import parse_collateral
from tidegate.attest.dcap_pck import parse_platform
from tidegate.attest.errors import EvidenceError
from tidegate.attest.files_nvidia import devices_of
from tidegate.attest.nvidia_eat import parse_eat
from tidegate.attest.nvidia_evidence import firmware_id, parse_saved
from tidegate.attest.nvidia_rim import parse_rim, signed_by_leaf
from tidegate.attest.pem import strict_chain

FILES = [
    msgspec.json.decode((tool.VECTORS / f"evidence-{name}.json").read_bytes(), type=EvidenceFile)
    for name in ("dcap", "nvidia")
]
BLOBS = [data for file in FILES for data in files_of(file, list(file.blobs))]
HOPPER = nvidia.Device("one")
DOCUMENT = nvidia.driver_rim(HOPPER)
PCK, LEAF = intel.pck(), HOPPER.leaf()


@st.composite
def damaged(draw: st.DrawFn, seeds: list[bytes]) -> bytes:
    """One of the seeds with some bytes replaced, cut out or put in."""
    data = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(1, 4))):
        at, size = draw(st.integers(0, len(data))), draw(st.integers(0, 12))
        data[at : at + size] = draw(st.binary(max_size=12))
    return bytes(data)


def _rim(data: bytes) -> object:
    found = parse_rim(data)
    return signed_by_leaf(found)


def _platform(data: bytes) -> object:
    (certificate,) = parse_certificates(data)
    return parse_platform(certificate), firmware_id(certificate)


SEEDS: list[tuple[Callable[[bytes], object], list[bytes]]] = [
    (dcap_quote.parse, [intel.quote(), intel.quote(5), intel.quote(3, "sgx")]),
    (parse_collateral, [intel.Collateral().written()]),
    (nvidia_report.parse, [HOPPER.report()]),
    (parse_saved, [nvidia.saved(HOPPER.saved())]),
    (_rim, [DOCUMENT]),
    (_platform, [PCK, LEAF]),
    (parse_eat, [data for data in BLOBS if data[:8] == b'[["JWT",']),
    (lambda data: strict_chain(data, "chain"), [intel.chain()]),
    (lambda data: devices_of(data, (HOPPER.chain(),)), [HOPPER.report().hex().encode()]),
]


@pytest.mark.parametrize(("parse", "seeds"), SEEDS)
@settings(max_examples=250)
@given(data=st.data())
def test_devices_parsers_raise_nothing_else(
    parse: Callable[[bytes], object], seeds: list[bytes], data: st.DataObject
) -> None:
    for made in (data.draw(damaged(seeds)), data.draw(st.binary(max_size=400))):
        with suppress(EvidenceError):
            parse(made)


@settings(max_examples=300)
@given(at=st.integers(0, len(DOCUMENT) - 1), byte=st.integers(0, 255))
@example(at=0, byte=ord("<"))
def test_a_changed_document_is_no_longer_signed(at: int, byte: int) -> None:
    changed = DOCUMENT[:at] + bytes([byte]) + DOCUMENT[at + 1 :]
    try:
        found = parse_rim(changed)
    except EvidenceError:
        return
    leaf, *others = found.certificates
    chained = isinstance(find_chain(leaf, others, frozenset({nvidia.RIMS.pin})), Chain)
    same = found == parse_rim(DOCUMENT) or found.data == DOCUMENT
    assert same or not (chained and signed_by_leaf(found)) or _means_the_same(found.data)


def _means_the_same(data: bytes) -> bool:
    """White space and quotation marks within tags say nothing, and are not signed."""
    return nvidia.canonical(data.decode()) == nvidia.canonical(DOCUMENT.decode())


@pytest.mark.parametrize(
    "text",
    [
        "<a>" * 300_000,
        "<a " + " ".join(f'b{n}="c"' for n in range(90_000)) + "/>",
        "<a>&#0;</a>",
        "<a>" + "&amp;" * 150_000 + "</a>",
        '<?xml version="1.0" encoding="ebcdic-cp-us"?><a/>',
        '<a xmlns:x="http://x" x:b="1" xmlns:y="http://x" y:b="1"/>',
        "<" * 1_000_000,
    ],
    ids=["deep", "wide", "zero", "entities", "encoding", "twice", "open"],
)
def test_xml_that_is_made_to_hurt_is_refused(text: str) -> None:
    with pytest.raises(EvidenceError):
        parse_rim(text.encode())
