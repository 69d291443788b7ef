"""RIM documents in XML, read and held to their signature. Pure. Needs `tidegate[vault]`.

XML is read closed: UTF-8, no document type, hence no entities, nothing fetched, sizes bounded. The
signature's form is fixed before signxml verifies it, and only what it covered counts.
"""

from __future__ import annotations

import binascii
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from lxml import etree
from signxml import DigestAlgorithm, SignatureConfiguration, SignatureMethod, XMLVerifier
from signxml.exceptions import SignXMLException

from tidegate.attest.certificates import MOST_CERTIFICATES, Certificate, parse_certificate
from tidegate.attest.errors import EvidenceError
from tidegate.attest.nvidia_rim import Rim

KIND: Final = "RIM"
MOST_BYTES: Final = 1 << 20
"""Of a document: genuine ones have 21 KB."""
MOST_MEASUREMENTS: Final = 256
MOST_ALTERNATIVES: Final = 64
_SIGNATURE: Final = 96
_DIGEST: Final = 48

_SWID: Final = "{http://standards.iso.org/iso/19770/-2/2015/schema.xsd}"
_SHA384: Final = "{http://www.w3.org/2001/04/xmlenc#sha384}"
_DS: Final = "{http://www.w3.org/2000/09/xmldsig#}"
_REFERENCE: Final = f"{_DS}Reference"
_C14N_11: Final = "http://www.w3.org/2006/12/xml-c14n11"
_FORM: Final = (
    ("CanonicalizationMethod", _C14N_11),
    ("SignatureMethod", "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha384"),
    ("Reference", ""),
    ("Transforms", None),
    ("Transform", "http://www.w3.org/2000/09/xmldsig#enveloped-signature"),
    ("Transform", _C14N_11),
    ("DigestMethod", "http://www.w3.org/2001/04/xmldsig-more#sha384"),
    ("DigestValue", None),
)
"""What SignedInfo holds, in document order, with each one's Algorithm (of a Reference, its URI)."""


_Content = tuple[str, str, tuple[tuple[int, frozenset[bytes]], ...]]


def parse_rim(data: bytes) -> Rim:
    """A RIM from its XML. Raises `EvidenceError` for anything else."""
    root = _tree(data)
    product, version, measurements = _content(root)
    return Rim(
        product=product,
        version=version,
        measurements=measurements,
        certificates=_certificates(root),
        data=data,
    )


def signed_by_leaf(rim: Rim) -> bool:
    """Whether the first certificate's key signed what was read. Its chain is not looked at."""
    try:
        leaf = x509.load_der_x509_certificate(rim.certificates[0].der)
        rules = SignatureConfiguration(
            require_x509=True,
            location="./",
            expect_references=1,
            signature_methods=frozenset({SignatureMethod.ECDSA_SHA384}),
            digest_algorithms=frozenset({DigestAlgorithm.SHA384}),
            # The certificate's dates are the appraiser's to judge, by the clock that it was given.
            verification_time=leaf.not_valid_before_utc,
        )
        verified = XMLVerifier().verify(
            _tree(rim.data), x509_cert=leaf, parser=_parser(), expect_config=rules
        )
        covered = verified.signed_xml
        return covered is not None and _content(covered) == _said(rim)
    except _NOT_SIGNED:
        return False


_NOT_SIGNED: Final = (
    SignXMLException,
    InvalidSignature,
    UnsupportedAlgorithm,
    etree.LxmlError,
    ValueError,
    EvidenceError,
)
"""All that signxml and what it stands on raise for a signature that does not hold."""


def _said(rim: Rim) -> _Content:
    return rim.product, rim.version, rim.measurements


def _parser() -> etree.XMLParser:
    return etree.XMLParser(
        encoding="utf-8",
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        dtd_validation=False,
        attribute_defaults=False,
        huge_tree=False,
    )


def _tree(data: bytes) -> etree._Element:
    """The root of a document in the form that is read, with its one signature at its end."""
    if len(data) > MOST_BYTES:
        raise EvidenceError(KIND, "document", f"is longer than {MOST_BYTES} bytes")
    if b"<!DOCTYPE" in data or b"<!ENTITY" in data:
        raise EvidenceError(KIND, "document", "has a document type, which none needs")
    try:
        root = etree.fromstring(data, _parser())
    except (etree.XMLSyntaxError, ValueError) as error:
        raise EvidenceError(KIND, "document", f"is no XML: {str(error)[:120]}") from error
    if root.tag != f"{_SWID}SoftwareIdentity" or root.getroottree().docinfo.doctype:
        raise EvidenceError(KIND, "document", "is no software identity of ISO 19770-2")
    signatures = [node for node in root.iter() if node.tag == f"{_DS}Signature"]
    if signatures != [root[-1]]:
        raise EvidenceError(KIND, "signature", "is not there exactly once, as the last element")
    _check_form(signatures[0])
    return root


def _check_form(signature: etree._Element) -> None:
    """Raises `EvidenceError` for a signature of another form than the one that NVIDIA uses."""
    parts = [str(node.tag).removeprefix(_DS) for node in signature]
    if parts != ["SignedInfo", "SignatureValue", "KeyInfo"]:
        raise EvidenceError(KIND, "signature", f"has {', '.join(parts)[:80] or 'nothing'}")
    form = tuple(
        (
            str(node.tag).removeprefix(_DS),
            node.get("URI" if node.tag == _REFERENCE else "Algorithm"),
        )
        for node in signature[0].iterdescendants()
    )
    if form != _FORM:
        raise EvidenceError(KIND, "signature", "is not of the one form that is taken")
    digest = signature[0].find(f".//{_DS}DigestValue")
    sizes = ((signature[1], _SIGNATURE), (digest, _DIGEST))
    for node, size in sizes:
        if node is None or len(_base64(node.text, "signature")) != size:
            raise EvidenceError(KIND, "signature", f"has not {size} bytes where it should")


def _base64(text: str | None, field: str) -> bytes:
    try:
        return binascii.a2b_base64("".join((text or "").split()), strict_mode=True)
    except ValueError as error:
        raise EvidenceError(KIND, field, "is no base64") from error


def _certificates(root: etree._Element) -> tuple[Certificate, ...]:
    texts = [node.text for node in root.iter(f"{_DS}X509Certificate")]
    if not 1 <= len(texts) <= MOST_CERTIFICATES:
        raise EvidenceError(KIND, "certificates", f"are {len(texts)}")
    return tuple(parse_certificate(_base64(text, "certificate")) for text in texts)


def _content(root: etree._Element) -> _Content:
    """Product, version and active measurements. Raises `EvidenceError` where they are not there."""
    metas = root.findall(f"{_SWID}Meta")
    payloads = root.findall(f"{_SWID}Payload")
    if len(metas) != 1 or len(payloads) != 1:
        raise EvidenceError(KIND, "document", "has not one Meta and one Payload")
    product, version = metas[0].get("product"), metas[0].get("colloquialVersion")
    if not product or not version:
        raise EvidenceError(KIND, "Meta", "names no product or no version")
    found: dict[int, frozenset[bytes]] = {}
    resources = payloads[0].findall(f"{_SWID}Resource")
    if len(resources) > MOST_MEASUREMENTS:
        raise EvidenceError(KIND, "Payload", f"has more than {MOST_MEASUREMENTS} measurements")
    for resource in resources:
        if resource.get("type") != "Measurement":
            raise EvidenceError(KIND, "Payload", "has a resource that is no measurement")
        if resource.get("active") == "False":
            continue
        index, values = _measurement(resource)
        if index in found:
            raise EvidenceError(KIND, "Payload", f"has measurement {index} twice")
        found[index] = values
    return product, version, tuple(sorted(found.items()))


def _measurement(resource: etree._Element) -> tuple[int, frozenset[bytes]]:
    if resource.get("active") != "True":
        raise EvidenceError(KIND, "Payload", "has a measurement neither active nor not")
    index = _number(resource, "index", MOST_MEASUREMENTS)
    size = _number(resource, "size", 64)
    alternatives = _number(resource, "alternatives", MOST_ALTERNATIVES)
    values: set[bytes] = set()
    for place in range(alternatives):
        try:
            values.add(bytes.fromhex(resource.get(f"{_SHA384}Hash{place}") or "-"))
        except ValueError as error:
            raise EvidenceError(KIND, f"measurement {index}", "has no such hash") from error
    if not values or any(len(value) != size for value in values):
        raise EvidenceError(KIND, f"measurement {index}", "has hashes of another size than it says")
    return index, frozenset(values)


def _number(resource: etree._Element, name: str, most: int) -> int:
    text = resource.get(name) or ""
    if not (text.isascii() and text.isdigit() and len(text) < 6 and int(text) <= most):
        raise EvidenceError(KIND, name, f"is not a number up to {most}")
    return int(text)
