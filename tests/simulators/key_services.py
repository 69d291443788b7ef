"""Real key services for tests: an OpenBao server, and SoftHSM2 with a token of its own."""

from __future__ import annotations

import atexit
import functools
import http.client
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tidegate.vault.kms_openbao import OpenBaoKms
from tidegate.vault.kms_pkcs11 import Pkcs11Kms

PIN = "1234"
SOFTHSM = next(Path("/usr/lib").glob("**/libsofthsm2.so"), None)
LACKING_SOFTHSM = "SoftHSM2 is not installed (Debian: softhsm2): keys in a module are untested here"


@contextmanager
def openbao() -> Iterator[tuple[str, str]]:
    """A development server, in memory: its address, and its root token."""
    command = Path(sys.executable).with_name("bao")
    token = secrets.token_hex(16)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [
            str(command),
            "server",
            "-dev",
            "-dev-no-store-token",
            f"-dev-root-token-id={token}",
            f"-dev-listen-address=127.0.0.1:{port}",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(600):
            if _answers(port, token):
                break
            time.sleep(0.05)
        else:
            raise RuntimeError("the server did not start")
        yield f"http://127.0.0.1:{port}", token
    finally:
        server.terminate()
        server.wait()


def _answers(port: int, token: str) -> bool:
    """Whether the server is up; the transit engine is mounted then."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        headers = {"X-Vault-Token": token}
        connection.request("POST", "/v1/sys/mounts/transit", b'{"type":"transit"}', headers)
        return connection.getresponse().status == 204
    except OSError:
        return False
    finally:
        connection.close()


def openbao_kms(address: str, token: str) -> OpenBaoKms:
    """A key of its own on the server."""
    kms = OpenBaoKms(address, f"weights-{secrets.token_hex(4)}", token)
    kms.create()
    return kms


@functools.cache
def softhsm_token() -> str:
    """A token's label. One for the process: the module looks for tokens when it is loaded."""
    folder = Path(tempfile.mkdtemp(prefix="softhsm-"))
    atexit.register(shutil.rmtree, folder)
    (folder / "tokens").mkdir()
    config = folder / "softhsm2.conf"
    config.write_text(f"directories.tokendir = {folder / 'tokens'}\n")
    os.environ["SOFTHSM2_CONF"] = str(config)
    tool = shutil.which("softhsm2-util") or "softhsm2-util"
    command = [tool, "--init-token", "--free", "--label", "tidegate"]
    subprocess.run([*command, "--pin", PIN, "--so-pin", PIN], check=True, capture_output=True)
    return "tidegate"


def softhsm_kms(label: str) -> Pkcs11Kms:
    """A key of its own in the token."""
    kms = Pkcs11Kms(str(SOFTHSM), label, f"weights-{secrets.token_hex(4)}", PIN)
    kms.create()
    return kms
