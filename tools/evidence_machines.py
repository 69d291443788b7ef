"""Made-up machines that give evidence: an AMD processor, a TPM, a VM of Azure's.

They sign as the real ones do, under made-up makers' keys (`evidence_authorities`).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field

from cryptography.hazmat.decrepit.ciphers.modes import CFB
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from evidence_authorities import (
    Authority,
    Key,
    drawn,
    ec_key,
    extension,
    integer,
    oid,
    root,
    rsa_key,
    tlv,
)

ARC = "1.3.6.1.4.1.3704.1"
TCB = (4, 0, 24, 219)
"""Bootloader, TEE, SNP and microcode of the made-up processors."""
CPUS = {"Milan": (0x19, 0x01, 1), "Genoa": (0x19, 0x11, 1), "Turin": (0x1A, 0x02, 1)}
MEASURED = drawn("measurement", 48)
NONCE = drawn("nonce", 64)


@dataclass(frozen=True)
class Chip:
    """A processor of AMD's kind."""

    label: str = "one"
    product: str = "Milan"
    signer: str = "vcek"
    tcb: tuple[int, int, int, int] = TCB

    @property
    def key(self) -> ec.EllipticCurvePrivateKey:
        return ec_key(f"{self.label} {self.product} {self.signer}")

    @property
    def hardware_id(self) -> bytes:
        return drawn(f"chip {self.label}", 8 if self.product == "Turin" else 64)

    @property
    def line(self) -> tuple[Authority, Authority]:
        """Intermediate and root."""
        ark = root(f"ARK-{self.product}")
        common = f"SEV-{self.product}" if self.signer == "vcek" else f"SEV-VLEK-{self.product}"
        return ark.authority(common, common, serial=2), ark

    def extensions(self) -> bytes:
        """What the certificate says of firmware, and of the chip or the cloud."""
        bootloader, tee, snp, microcode = self.tcb
        parts = {"1": bootloader, "2": tee, "3": snp, "8": microcode}
        if self.product == "Turin":
            parts["9"] = 1
        product = tlv(0x16, self.product.encode() + (b"-B0" if self.product == "Milan" else b""))
        found = extension(f"{ARC}.2", product)
        for number, value in parts.items():
            found += extension(f"{ARC}.3.{number}", integer(value))
        if self.signer == "vcek":
            return found + extension(f"{ARC}.4", self.hardware_id)
        return found + extension(f"{ARC}.5", tlv(0x16, b"cloud.example"))

    def certificate(self, **more) -> bytes:
        intermediate = more.pop("issuer", self.line[0])
        extensions = more.pop("extensions", self.extensions())
        return intermediate.certify(f"SEV-{self.signer.upper()}", self.key, extensions, **more)

    def packed_tcb(self, **more: int) -> bytes:
        """Eight bytes of TCB version, as this product lays them out."""
        names = ("bootloader", "tee", "snp", "microcode")
        parts = dict(zip(names, self.tcb, strict=True)) | more
        if self.product == "Turin":
            front = (1, parts["bootloader"], parts["tee"], parts["snp"], 0, 0, 0)
            return bytes((*front, parts["microcode"]))
        return bytes(
            (parts["bootloader"], parts["tee"], 0, 0, 0, 0, parts["snp"], parts["microcode"])
        )

    def report(self, signed_by: Chip | None = None, **more) -> bytes:
        """A report; more: fields that differ, by name."""
        version = more.get("version", 2 if self.product != "Turin" else 5)
        cpu = CPUS[self.product] if version >= 3 else (0, 0, 0)
        tcb = self.packed_tcb()
        keys = more.get("keys", 0 if self.signer == "vcek" else 1 << 2)
        chip = self.hardware_id if self.signer == "vcek" else bytes(64)
        body = b"".join(
            (
                struct.pack("<IIQ", version, more.get("svn", 1), more.get("policy", 0x3001F)),
                drawn("family", 16),
                drawn("image", 16),
                struct.pack("<II", more.get("vmpl", 0), more.get("algorithm", 1)),
                more.get("current", tcb),
                struct.pack("<QII", more.get("platform", 0b100101), keys, 0),
                more.get("data", NONCE).ljust(64, b"\0"),
                more.get("measured", MEASURED),
                more.get("host_data", bytes(32)),
                more.get("id_key", drawn("id key", 48)),
                more.get("author_key", bytes(48)),
                drawn("report id", 32),
                b"\xff" * 32,
                more.get("reported", tcb),
                bytes(more.get("cpu", cpu)) + bytes(21),
                more.get("chip", chip).ljust(64, b"\0"),
                more.get("committed", tcb),
                bytes((29, 55, 1, 0)) * 2,
                more.get("launch", tcb),
                bytes(168),
            )
        )
        key = (signed_by or self).key
        der = key.sign(body, ec.ECDSA(hashes.SHA384(), deterministic_signing=True))
        r, s = decode_dss_signature(der)
        return body + r.to_bytes(72, "little") + s.to_bytes(72, "little") + bytes(368)


def sized(data: bytes) -> bytes:
    """A TPM2B."""
    return len(data).to_bytes(2, "big") + data


NULL = b"\0\x10"
SHA256 = b"\0\x0b"
EK_ATTRIBUTES = 0x000300B2
AK_ATTRIBUTES = 0x00050072
EK_PURPOSE = "2.23.133.8.1"


def public(key: Key, attributes: int, *, storage: bool) -> bytes:
    """A TPMT_PUBLIC: a storage key (AES-128 in CFB mode), or a signing one (SHA-256)."""
    symmetric = bytes.fromhex("000600800043") if storage else NULL
    numbers = key.public_key().public_numbers()
    if isinstance(numbers, rsa.RSAPublicNumbers):
        scheme = NULL if storage else b"\0\x14" + SHA256
        rest = struct.pack(">HI", 2048, 0) + sized(numbers.n.to_bytes(256, "big"))
        kind = b"\0\x01"
    else:
        scheme = NULL if storage else b"\0\x18" + SHA256
        x, y = (sized(number.to_bytes(32, "big")) for number in (numbers.x, numbers.y))
        rest = b"\0\x03" + NULL + x + y
        kind = b"\0\x23"
    head = kind + SHA256 + struct.pack(">I", attributes)
    return head + sized(drawn("policy", 32) if storage else b"") + symmetric + scheme + rest


def event_log(events: list[tuple[int, bytes]]) -> bytes:
    """A crypto-agile log of measurements (register, data) into bank sha256."""
    first = b"Spec ID Event03\0" + bytes(4) + bytes((0, 2, 0, 2))
    first += struct.pack("<IHHB", 1, 0x000B, 32, 0)
    log = struct.pack("<II", 0, 3) + bytes(20) + struct.pack("<I", len(first)) + first
    for register, data in events:
        log += struct.pack("<IIIH", register, 0x0D, 1, 0x000B) + hashlib.sha256(data).digest()
        log += struct.pack("<I", len(data)) + data
    return log


EVENTS = [(0, b"firmware"), (4, b"boot loader"), (7, b"secure boot on"), (4, b"kernel")]


def registers(events: list[tuple[int, bytes]] = EVENTS) -> dict[int, bytes]:
    """What the events make of registers 0, 4 and 7."""
    found = {0: bytes(32), 4: bytes(32), 7: bytes(32)}
    for register, data in events:
        digest = hashlib.sha256(data).digest()
        found[register] = hashlib.sha256(found[register] + digest).digest()
    return found


@dataclass(frozen=True)
class Tpm:
    """A TPM with an endorsement key that a made-up maker certified, and an attestation key."""

    label: str = "one"
    rsa_keys: bool = False
    values: Mapping[int, bytes] = field(default_factory=registers)

    def _key(self, name: str) -> Key:
        label = f"tpm {self.label} {name}"
        return rsa_key(label) if self.rsa_keys else ec_key(label, ec.SECP256R1())

    @property
    def ek(self) -> Key:
        return self._key("ek")

    @property
    def ak(self) -> Key:
        return self._key("ak")

    @property
    def ek_public(self) -> bytes:
        return public(self.ek, EK_ATTRIBUTES, storage=True)

    def ak_public(self, attributes: int = AK_ATTRIBUTES) -> bytes:
        return public(self.ak, attributes, storage=False)

    @property
    def ak_name(self) -> bytes:
        return SHA256 + hashlib.sha256(self.ak_public()).digest()

    @property
    def maker(self) -> tuple[Authority, Authority]:
        """The intermediate that certified it, and the root."""
        top = root("TPM Maker Root")
        return top.authority("TPM Maker EK CA", "TPM Maker EK CA", serial=2), top

    def certificate(self, purpose: str = EK_PURPOSE, **more) -> bytes:
        issuer = more.pop("issuer", self.maker[0])
        extensions = extension("2.5.29.37", tlv(0x30, oid(purpose)))
        return issuer.certify(f"TPM {self.label}", self.ek, extensions, serial=77, **more)

    def quote(self, nonce: bytes, **more) -> bytes:
        """A TPMS_ATTEST over registers 0, 4 and 7 of bank sha256."""
        values = more.get("values", self.values)
        selected = more.get("selected", sorted(values))
        bits = sum(1 << number for number in selected).to_bytes(3, "little")
        digest = hashlib.sha256(b"".join(values[number] for number in selected)).digest()
        return b"".join(
            (
                more.get("magic", bytes.fromhex("ff544347")),
                more.get("kind", b"\x80\x18"),
                sized(SHA256 + drawn("qualified signer", 32)),
                sized(nonce),
                struct.pack(">QIIB", 1000, *more.get("boot", (7, 1)), 1),
                struct.pack(">Q", more.get("firmware", 0x0007000200000000)),
                struct.pack(">IHB", 1, 0x000B, 3) + bits,
                sized(digest),
            )
        )

    def sign(self, quote: bytes) -> bytes:
        """A TPMT_SIGNATURE."""
        if isinstance(self.ak, rsa.RSAPrivateKey):
            return (
                b"\0\x14" + SHA256 + sized(self.ak.sign(quote, padding.PKCS1v15(), hashes.SHA256()))
            )
        der = self.ak.sign(quote, ec.ECDSA(hashes.SHA256(), deterministic_signing=True))
        r, s = (sized(number.to_bytes(32, "big")) for number in decode_dss_signature(der))
        return b"\0\x18" + SHA256 + r + s

    def file(self, nonce: bytes, secret: bytes | None, **more) -> bytes:
        """The evidence as `spec/evidence.md` has it; more: parts that differ, None leaves out."""
        quote = more.pop("quote", None) or self.quote(nonce)
        found = {
            "format": "tidegate/tpm-evidence/v1",
            "ek_certificate": self.certificate(),
            "certificates": [authority.certificate for authority in self.maker],
            "ek_public": self.ek_public,
            "ak_public": self.ak_public(),
            "activation": secret,
            "quote": quote,
            "signature": self.sign(quote),
            "registers": {"sha256": {str(n): v.hex() for n, v in self.values.items()}},
        } | more
        return json.dumps(
            {name: _text(value) for name, value in found.items() if value is not None}
        ).encode()

    def activate(self, blob: bytes, sent: bytes) -> bytes:
        """TPM2_ActivateCredential for the loaded attestation key (Part 1, section 24)."""
        from tidegate.attest.tpm_credential import kdf_a, kdf_e

        sent = sent[2:]
        if isinstance(self.ek, rsa.RSAPrivateKey):
            mask = padding.MGF1(hashes.SHA256())
            seed = self.ek.decrypt(sent, padding.OAEP(mask, hashes.SHA256(), b"IDENTITY\0"))
        else:
            x, y = sent[2:34], sent[36:68]
            numbers = ec.EllipticCurvePublicNumbers(
                int.from_bytes(x, "big"), int.from_bytes(y, "big"), ec.SECP256R1()
            )
            shared = self.ek.exchange(ec.ECDH(), numbers.public_key())
            own = self.ek.public_key().public_numbers().x.to_bytes(32, "big")
            seed = kdf_e("sha256", shared, b"IDENTITY\0", x, own, 256)
        outer, identity = blob[4:36], blob[36:]
        integrity = kdf_a("sha256", seed, b"INTEGRITY", b"", b"", 256)
        if not hmac.compare_digest(
            outer, hmac.digest(integrity, identity + self.ak_name, "sha256")
        ):
            raise ValueError("the credential is for another key")
        storage = kdf_a("sha256", seed, b"STORAGE", self.ak_name, b"", 128)
        decryptor = Cipher(AES(storage), CFB(bytes(16))).decryptor()
        return (decryptor.update(identity) + decryptor.finalize())[2:]


def _text(value: object) -> object:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return [_text(one) for one in value] if isinstance(value, list) else value


def url64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@dataclass(frozen=True)
class Vm:
    """A confidential VM of Azure's kind: a chip, and a virtual TPM whose key the report binds."""

    chip: Chip = Chip()
    label: str = "vm"
    secure_boot: bool = True

    @property
    def tpm(self) -> Tpm:
        return Tpm(label=self.label, rsa_keys=True)

    def runtime(self, **more) -> bytes:
        numbers = self.tpm.ak.public_key().public_numbers()
        key = {
            "kid": "HCLAkPub",
            "key_ops": ["sign"],
            "kty": "RSA",
            "e": "AQAB",
            "n": url64(numbers.n.to_bytes(256, "big")),
        }
        configuration = {
            "console-enabled": True,
            "secure-boot": self.secure_boot,
            "tpm-enabled": True,
            "vmUniqueId": f"VM-{self.label}",
        }
        found = {"keys": [key] * more.get("keys", 1), "vm-configuration": configuration}
        return json.dumps(found | {"user-data": "00" * 64}, separators=(",", ":")).encode()

    def hcl(
        self, *, claimed: bytes | None = None, padding_bytes: bytes = bytes(254), **more
    ) -> bytes:
        """The paravisor's report; `claimed`: runtime claims that the report does not bind."""
        runtime = self.runtime(**more)
        report = self.chip.report(data=hashlib.sha256(runtime).digest())
        runtime = runtime if claimed is None else claimed
        inner = struct.pack("<5I", len(runtime) + 20, 1, 2, 1, len(runtime)) + runtime
        head = b"HCLA" + struct.pack("<7I", 1, 32 + len(report) + len(inner), 2, 0, 0, 0, 0)
        return head + report + inner + padding_bytes

    def file(
        self, nonce: bytes, *, hcl: bytes | None = None, tpm: Tpm | None = None, **more
    ) -> bytes:
        """The evidence as the attester writes it."""
        signer = tpm or self.tpm
        quote = more.get("quote") or signer.quote(nonce)
        values = more.get("values", signer.values)
        signature = signer.ak.sign(quote, padding.PKCS1v15(), hashes.SHA256())
        pcrs = [values.get(number, bytes(32)).hex() for number in range(24)]
        found = {
            "version": more.get("version", 2),
            "tpm_quote": {"signature": signature.hex(), "message": quote.hex(), "pcrs": pcrs},
            "hcl_report": url64(self.hcl() if hcl is None else hcl),
            "vcek": url64(more.get("vcek") or self.chip.certificate()),
        }
        return json.dumps(found).encode()
