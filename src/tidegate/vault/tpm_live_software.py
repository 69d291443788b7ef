"""A TPM in software (swtpm), with a maker of its own: for tests and demonstrations.

**It proves the protocol and no hardware**: whoever runs it can read its keys and set its registers.
Its maker's root is made beside it and trusted by nobody but the demonstration.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tidegate.vault.errors import VaultError
from tidegate.vault.tpm_live import Tpm

SWTPM = Path("/usr/bin/swtpm")
SETUP = Path("/usr/bin/swtpm_setup")
LOCAL_CA = Path("/usr/bin/swtpm_localca")
START_S = 10.0
SETUP_S = 120.0
_PORTS = range(20_000, 60_000, 2)


@dataclass(frozen=True, slots=True)
class SoftwareTpm:
    """A running one: the TPM, and its maker's certificates (PEM), the root last."""

    tpm: Tpm
    certificates: tuple[bytes, ...]


@contextmanager
def software_tpm(folder: Path) -> Iterator[SoftwareTpm]:
    """Make and run a TPM whose state is in `folder`; it ends with the context.

    Raises VaultError: swtpm is not installed, or does not start.
    """
    for program in (SWTPM, SETUP, LOCAL_CA):
        if not program.exists():
            raise VaultError(f"{program} is missing; install swtpm and swtpm-tools.")
    maker = _manufacture(folder)
    process, port = _started(folder)
    try:
        tpm = Tpm(folder / "keys", f"swtpm:host=127.0.0.1,port={port}")
        tpm.make_keys()
        yield SoftwareTpm(tpm, maker)
    finally:
        process.terminate()
        process.wait(START_S)


def _manufacture(folder: Path) -> tuple[bytes, ...]:
    """Give the TPM its seeds, and certificates of a maker that is made on the spot."""
    state, maker = folder / "state", folder / "maker"
    for path in (folder, state, maker):
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    options = folder / "options"
    options.write_text("--platform-manufacturer Tidegate\n--platform-model software\n")
    (folder / "localca.conf").write_text(
        f"statedir = {maker}\nsigningkey = {maker}/signkey.pem\n"
        f"issuercert = {maker}/issuercert.pem\ncertserial = {maker}/certserial\n"
    )
    (folder / "setup.conf").write_text(
        f"create_certs_tool={LOCAL_CA}\ncreate_certs_tool_config={folder}/localca.conf\n"
        f"create_certs_tool_options={options}\n"
    )
    done = subprocess.run(  # noqa: S603  a fixed path, no shell
        [SETUP, "--tpm2", "--tpmstate", state, "--create-ek-cert", "--pcr-banks", "sha256",
         "--config", folder / "setup.conf", "--overwrite"],
        capture_output=True,
        timeout=SETUP_S,
        check=False,
    )  # fmt: skip
    if done.returncode:
        raise VaultError(f"swtpm_setup failed: {done.stdout.decode('utf-8', 'replace')[-300:]}")
    files = ("issuercert.pem", "swtpm-localca-rootca-cert.pem")
    return tuple((maker / name).read_bytes() for name in files)


def _started(folder: Path) -> tuple[subprocess.Popen[bytes], int]:
    """Start it on two neighbouring ports of this machine, as tpm2-tools expect it."""
    for port in _PORTS:
        if not (_free(port) and _free(port + 1)):
            continue
        process = subprocess.Popen(  # noqa: S603  a fixed path, no shell
            [SWTPM, "socket", "--tpm2", "--tpmstate", f"dir={folder / 'state'}",
             "--server", f"type=tcp,port={port}", "--ctrl", f"type=tcp,port={port + 1}",
             "--flags", "not-need-init,startup-clear"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        if _listening(process, port + 1):
            return process, port
        process.kill()
        process.wait()
    raise VaultError("swtpm does not start; is another one using its folder?")


def _free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _listening(process: subprocess.Popen[bytes], port: int) -> bool:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        # Connected to its control channel only: the other takes one connection at a time.
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.2):
            return True
        time.sleep(0.05)
    return False
