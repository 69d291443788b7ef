"""A host's own TPM, through tpm2-tools: keys, the answer to a credential, quotes.

Debian's tools at fixed paths, no shell, nothing in the environment but where the TPM is. A host
that is owned can run others: what they answer is worth what the TPM signed, and the verifier checks
that (`tidegate.attest`).
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import msgspec

from tidegate.attest.tpm_credential import Credential
from tidegate.attest.tpm_evidence import FORMAT
from tidegate.vault.errors import VaultError

TOOLS = Path("/usr/bin")
HARDWARE = "device:/dev/tpmrm0"
"""The kernel's resource manager in front of a real TPM."""

PCRS = (0, 1, 2, 3, 4, 5, 7, 14)
"""What a host usually measures on its way up: firmware, its settings, boot loader, keys, shim."""

EK_CERTIFICATE = "0x1c00002"
"""Where the maker leaves the RSA 2048 endorsement key's certificate (TCG EK Credential Profile)."""

TIMEOUT_S = 60.0
"""Making an RSA key takes a TPM some seconds."""

_CREDENTIAL = bytes.fromhex("badcc0de00000001")
"""How tpm2-tools begins a file with a credential."""


class Tpm:
    """One TPM. `folder` keeps its keys' contexts, which only that TPM can load.

    Args:
        folder: for this TPM alone, made if it is not there.
        where: the TCTI, such as `device:/dev/tpmrm0`.

    Raises VaultError throughout, where a tool is missing or fails.
    """

    def __init__(self, folder: Path, where: str = HARDWARE) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = folder
        self._where = where

    def make_keys(self) -> None:
        """Make the endorsement key from its seed, and a fresh attestation key under it."""
        self._run("createek", "-c", "ek.ctx", "-G", "rsa", "-u", "ek.pub")
        self._flush()
        self._run("createak", "-C", "ek.ctx", "-c", "ak.ctx", "-G", "ecc", "-g", "sha256",
                  "-s", "ecdsa", "-u", "ak.pub", "-n", "ak.name")  # fmt: skip
        self._flush()

    @property
    def ek_public(self) -> bytes:
        """The endorsement key's public area (TPM2B_PUBLIC)."""
        return self._read("ek.pub")

    @property
    def ak_public(self) -> bytes:
        """The attestation key's public area."""
        return self._read("ak.pub")

    @property
    def ak_name(self) -> bytes:
        """The attestation key's name: hash algorithm and hash of its public area."""
        return self._read("ak.name")

    def ek_certificate(self) -> bytes:
        """The maker's certificate of the endorsement key, DER, as it lies in the TPM."""
        self._run("nvread", EK_CERTIFICATE, "-o", "ek.der")
        return self._read("ek.der")

    def activate(self, credential: Credential) -> bytes:
        """The secret in a credential made for this TPM and this attestation key."""
        (self._folder / "credential").write_bytes(_CREDENTIAL + credential.blob + credential.seed)
        self._run("startauthsession", "--policy-session", "-S", "session.ctx")
        self._run("policysecret", "-S", "session.ctx", "-c", "e")
        self._run("activatecredential", "-c", "ak.ctx", "-C", "ek.ctx", "-i", "credential",
                  "-o", "secret", "-P", "session:session.ctx")  # fmt: skip
        self._run("flushcontext", "session.ctx")
        self._flush()
        secret = self._read("secret")
        (self._folder / "secret").unlink()
        return secret

    def extend(self, pcr: int, digest: bytes) -> None:
        """Measure something: extend a register by 32 bytes."""
        self._run("pcrextend", f"{pcr}:sha256={digest.hex()}")

    def registers(self, pcrs: Sequence[int] = PCRS) -> dict[int, bytes]:
        """Values of registers of the SHA-256 bank, 32 bytes each."""
        self._run("pcrread", _selection(pcrs), "-o", "registers")
        raw = self._read("registers")
        values = [raw[start : start + 32] for start in range(0, len(raw), 32)]
        return dict(zip(sorted(pcrs), values, strict=True))

    def evidence(self, bound: bytes, pcrs: Sequence[int] = PCRS) -> bytes:
        """A quote over registers that binds `bound` (32 bytes), as a file of `spec/evidence.md`."""
        self._run("quote", "-c", "ak.ctx", "-l", _selection(pcrs), "-q", bound.hex(),
                  "-m", "quote", "-s", "signature", "-g", "sha256")  # fmt: skip
        self._flush()
        found = {str(number): value.hex() for number, value in self.registers(pcrs).items()}
        body = {
            "format": FORMAT,
            "ak_public": self.ak_public,
            "quote": self._read("quote"),
            "signature": self._read("signature"),
            "registers": {"sha256": found},
        }
        return msgspec.json.encode(body)

    def enrolment(self, secret: bytes, certificates: Sequence[bytes], bound: bytes) -> bytes:
        """Evidence for a first time: with the endorsement key and the answer to its credential."""
        body = msgspec.json.decode(self.evidence(bound))
        body["ek_certificate"] = self.ek_certificate()
        body["certificates"] = list(certificates)
        body["ek_public"] = self.ek_public
        body["activation"] = secret
        return msgspec.json.encode(body)

    def _flush(self) -> None:
        # Without a resource manager in front of it a TPM has room for three loaded keys.
        self._run("flushcontext", "--transient-object")

    def _read(self, name: str) -> bytes:
        try:
            return (self._folder / name).read_bytes()
        except OSError as error:
            raise VaultError(f"The TPM has left no {name}; make its keys first.") from error

    def _run(self, tool: str, *arguments: str) -> None:
        program = TOOLS / f"tpm2_{tool}"
        try:
            done = subprocess.run(  # noqa: S603  a fixed path, no shell
                [program, "-Q", *arguments],
                cwd=self._folder,
                env={"TPM2TOOLS_TCTI": self._where, "TSS2_LOG": "all+NONE"},
                capture_output=True,
                timeout=TIMEOUT_S,
                check=False,
            )
        except FileNotFoundError as error:
            raise VaultError(f"{program} is missing; install tpm2-tools.") from error
        except subprocess.TimeoutExpired as error:
            raise VaultError(f"The TPM does not answer {tool}.") from error
        if done.returncode:
            said = done.stderr.decode("utf-8", "replace").strip().splitlines()
            raise VaultError(f"The TPM refuses {tool}: {said[-1] if said else done.returncode}")


def _selection(pcrs: Sequence[int]) -> str:
    return "sha256:" + ",".join(str(number) for number in sorted(pcrs))
