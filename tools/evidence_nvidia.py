"""Made-up NVIDIA devices, and documents of reference values for them, signed without any library
for XML signatures, so that they check the one that verifies."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from evidence_authorities import (
    Authority,
    drawn,
    ec_key,
    extension,
    integer,
    oid,
    root,
    spki,
    tlv,
)
from evidence_intel import pem
from lxml import etree

NONCE = drawn("device nonce", 32)
DRIVER, FIRMWARE, SWITCH_FIRMWARE = "550.01", "96.00.01.00.02", "96.10.01.00.03"
DEVICES = root("Made-up Device Identity CA")
RIMS = root("Made-up RIM signing Root CA")
_BLOCKS = 8
NVDEC = 35
"""The measurement that is not compared where the decoder is off; made-up devices have few more."""


def raw_signature(key: ec.EllipticCurvePrivateKey, data: bytes) -> bytes:
    """r and s of ECDSA with SHA-384, 48 bytes each."""
    der = key.sign(data, ec.ECDSA(hashes.SHA384(), deterministic_signing=True))
    return b"".join(part.to_bytes(48, "big") for part in decode_dss_signature(der))


@dataclass(frozen=True)
class Device:
    """A GPU or a switch. `label` tells devices apart; `chip` as certificates name it."""

    label: str
    chip: str = "GH100"
    driver: str = DRIVER
    firmware: str = FIRMWARE
    peers: tuple[str, ...] = ()

    @property
    def switch(self) -> bool:
        return self.chip.startswith("LS_")

    @property
    def pdi(self) -> bytes:
        return drawn(f"pdi {self.label}", 8)

    @property
    def firmware_id(self) -> bytes:
        return drawn(f"firmware id {self.label}", 48)

    def measures(self, index: int) -> bytes:
        """A measurement: of the firmware in the lower half, of the driver above."""
        of_driver = index >= _BLOCKS // 2 and not self.switch
        version = self.driver if of_driver else self.firmware
        return drawn(f"{self.chip} {version} measures {index}", 48)

    def line(self) -> tuple[Authority, Authority]:
        """The burnt-in key's certificate, and its maker's above it."""
        maker = DEVICES.authority(f"Made-up {self.chip} Provisioner", "provisioner", serial=2)
        letter = "50" if self.switch else "41"
        name = f"{self.chip} A01 BROM|{letter}{self.pdi.hex().upper()}"
        return maker.authority(name, f"burnt in {self.label}", serial=3), maker

    def leaf(self, firmware_id: bytes | None = None, **more: Any) -> bytes:
        """The firmware's key's certificate, which bears the firmware's id as its chip has it."""
        digest = tlv(
            0x30,
            oid("2.16.840.1.101.3.4.2.2"),
            tlv(0x04, self.firmware_id if firmware_id is None else firmware_id),
        )
        key = ec_key(f"firmware {self.label}")
        if self.chip.startswith("GB"):
            named = extension(
                "2.23.133.5.4.1.1", tlv(0x30, tlv(0x80, b"NVIDIA"), tlv(0xA6, digest))
            )
        else:
            named = extension("2.23.133.5.4.1", tlv(0x30, integer(1), spki(key), digest))
        more.setdefault("serial", 4)
        issuer = more.pop("issuer", self.line()[0])
        made: bytes = issuer.certify(f"{self.chip} A01 FMC LF", key, named, **more)
        return made

    def chain(self, leaf: bytes | None = None) -> bytes:
        burnt, maker = self.line()
        ders = (leaf or self.leaf(), burnt.certificate, maker.certificate, DEVICES.certificate)
        return pem(*ders)

    def report(
        self,
        *,
        nonce: bytes = NONCE,
        signer: str | None = None,
        changed: dict[int, bytes] | None = None,
        fields: dict[int, bytes | None] | None = None,
    ) -> bytes:
        """Request and response. `changed`: measurements that are others; `fields`: NVIDIA's own
        that are others, or left out."""
        values = [self.measures(index) for index in range(_BLOCKS)]
        values += [bytes(48)] * (NVDEC - _BLOCKS) + [self.measures(NVDEC)]
        for index, value in (changed or {}).items():
            values[index] = value
        record = b"".join(_block(index, value) for index, value in enumerate(values, 1))
        own = self._fields() | (fields or {})
        opaque = b"".join(
            number.to_bytes(2, "little") + len(value).to_bytes(2, "little") + value
            for number, value in own.items()
            if value is not None
        )
        data = b"".join(
            (
                bytes([0x11, 0xE0, 0x01, 0xFF]) + nonce + b"\0",
                bytes([0x11, 0x60, 0, 0, len(values)]) + len(record).to_bytes(3, "little"),
                record,
                drawn(f"response nonce {self.label}", 32),
                len(opaque).to_bytes(2, "little") + opaque,
            )
        )
        return data + raw_signature(ec_key(signer or f"firmware {self.label}"), data)

    def _fields(self) -> dict[int, bytes | None]:
        names = [drawn(f"pdi {peer}", 8) for peer in self.peers]
        if self.switch:
            gpus = b"".join(names).ljust(64, b"\0") + b"\xff" * 64
            return {6: self.firmware.encode(), 22: self.pdi, 26: gpus}
        version = bytes.fromhex(self.firmware.replace(".", ""))
        found: dict[int, bytes | None] = {
            3: self.driver.encode() + b"\0",
            6: version[3::-1] + version[4:] + bytes(3),
            11: b"\x55",
            20: self.firmware_id,
        }
        if names:
            found[22] = b"".join(name[::-1] for name in names)
        return found

    def saved(self, report: bytes | None = None, **more: str) -> dict[str, str]:
        """One entry of a file as NVIDIA's tools save it."""
        data = self.report() if report is None else report
        arch = {"GH": "HOPPER", "GB": "BLACKWELL", "LS": "LS10"}[self.chip[:2]]
        return {
            "arch": arch,
            "certificate": base64.b64encode(self.chain()).decode(),
            "evidence": base64.b64encode(data).decode(),
            "nonce": data[4:36].hex(),
        } | more


def _block(index: int, value: bytes) -> bytes:
    dmtf = b"\1" + len(value).to_bytes(2, "little") + value
    return bytes([index, 1]) + len(dmtf).to_bytes(2, "little") + dmtf


def saved(*entries: dict[str, str]) -> bytes:
    return json.dumps(entries, separators=(",", ":")).encode()


_RESOURCE = '<r:Resource type="Measurement" index="{}" active="{}" alternatives="{}" {} size="48"/>'
_DOCUMENT = (
    '<SoftwareIdentity xmlns="http://standards.iso.org/iso/19770/-2/2015/schema.xsd"'
    ' xmlns:r="http://standards.iso.org/iso/19770/-2/2015/schema.xsd"'
    ' xmlns:h="http://www.w3.org/2001/04/xmlenc#sha384" name="{product}">'
    '<r:Meta colloquialVersion="{version}" product="{product}"/>'
    "<r:Payload>{resources}</r:Payload>{signature}</SoftwareIdentity>"
)
_SIGNED_INFO = (
    '<ds:SignedInfo xmlns:ds="http://www.w3.org/2000/09/xmldsig#">'
    '<ds:CanonicalizationMethod Algorithm="http://www.w3.org/2006/12/xml-c14n11"/>'
    '<ds:SignatureMethod Algorithm="http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha384"/>'
    '<ds:Reference URI=""><ds:Transforms>'
    '<ds:Transform Algorithm="http://www.w3.org/2000/09/xmldsig#enveloped-signature"/>'
    '<ds:Transform Algorithm="http://www.w3.org/2006/12/xml-c14n11"/></ds:Transforms>'
    '<ds:DigestMethod Algorithm="http://www.w3.org/2001/04/xmldsig-more#sha384"/>'
    "<ds:DigestValue>{digest}</ds:DigestValue></ds:Reference></ds:SignedInfo>"
)
_SIGNATURE = (
    '<ds:Signature xmlns:ds="http://www.w3.org/2000/09/xmldsig#">{info}'
    "<ds:SignatureValue>{value}</ds:SignatureValue><ds:KeyInfo><ds:X509Data>"
    "{certificates}</ds:X509Data></ds:KeyInfo></ds:Signature>"
)


def rim_signer(issuer: Authority = RIMS, **more: Any) -> bytes:
    more.setdefault("serial", 5)
    return issuer.certify("Made-up RIM Signer", ec_key("rim signer"), b"", **more)


def rim(
    product: str,
    version: str,
    values: dict[int, list[bytes]],
    *,
    signer: str = "rim signer",
    certificates: tuple[bytes, ...] | None = None,
    after: tuple[str, str] | None = None,
) -> bytes:
    """A document of reference values. `after`: what is replaced by what once it is signed."""
    resources = "".join(
        _RESOURCE.format(
            index,
            "True" if found else "False",
            max(1, len(found)),
            " ".join(f'h:Hash{n}="{one.hex()}"' for n, one in enumerate(found or [bytes(48)])),
        )
        for index, found in values.items()
    )
    bare = _DOCUMENT.format(product=product, version=version, resources=resources, signature="")
    digest = base64.b64encode(hashlib.sha384(canonical(bare)).digest()).decode()
    info = _SIGNED_INFO.format(digest=digest)
    # In place it inherits the namespaces of what stands around it, and these are signed with it.
    around = _DOCUMENT.format(product=product, version=version, resources=resources, signature=info)
    inside = etree.fromstring(around.encode())[-1]
    signed = etree.tostring(inside, method="c14n")
    value = base64.b64encode(raw_signature(ec_key(signer), signed)).decode()
    ders = (rim_signer(), RIMS.certificate) if certificates is None else certificates
    held = "".join(
        f"<ds:X509Certificate>{base64.b64encode(der).decode()}</ds:X509Certificate>" for der in ders
    )
    plain = info.replace(' xmlns:ds="http://www.w3.org/2000/09/xmldsig#"', "", 1)
    signature = _SIGNATURE.format(info=plain, value=value, certificates=held)
    text = _DOCUMENT.format(
        product=product, version=version, resources=resources, signature=signature
    )
    return (text.replace(*after) if after else text).encode()


def canonical(text: str) -> bytes:
    found: bytes = etree.tostring(etree.fromstring(text.encode()), method="c14n")
    return found


def driver_rim(device: Device, **more: Any) -> bytes:
    """The driver's reference values: the upper half, the decoder's, and one that is not active."""
    values = {index: [device.measures(index)] for index in range(4, _BLOCKS)}
    values |= {NVDEC: [drawn("decoder", 48)], 20: []}
    return rim(device.chip, device.driver, values | more.pop("values", {}), **more)


def firmware_rim(device: Device, **more: Any) -> bytes:
    """The firmware's reference values: the lower half, one of two alternatives."""
    values = {
        index: [drawn("another", 48), device.measures(index)]
        for index in range(_BLOCKS if device.switch else 4)
    }
    product = device.chip.replace("_", "")
    return rim(product, device.firmware, values | more.pop("values", {}), **more)
