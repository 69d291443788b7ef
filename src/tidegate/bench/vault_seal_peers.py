"""Tink and age, which sealing is held against."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

from tidegate.errors import TidegateError


class Age:
    """age's own program, with an X25519 key."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._program = shutil.which("age")
        keygen = shutil.which("age-keygen")
        if self._program is None or keygen is None:
            raise TidegateError("age is not installed; `apt-get install age`, or leave out `seal`")
        self._key = place / "age.key"
        _run(keygen, "-o", str(self._key))
        self._recipient = _run(keygen, "-y", str(self._key)).strip()

    def encrypt(self, file: Path) -> None:
        """`file` to a file."""
        _run(self._command, "-r", self._recipient, "-o", str(self._place / "age"), str(file))

    def decrypt(self) -> None:
        """To a file; in memory, where the workplace is."""
        out = self._place / "age.out"
        _run(self._command, "-d", "-i", str(self._key), "-o", str(out), str(self._place / "age"))
        out.unlink()

    @property
    def _command(self) -> str:
        return str(self._program)


def tink_primitive() -> Any:
    """Tink's streaming AEAD under a new key. Raises TidegateError where Tink is not installed."""
    try:
        import tink
        from tink import streaming_aead
    except ImportError as error:
        raise TidegateError(
            "Tink is not installed; `pip install tink`, or leave out `seal`"
        ) from error
    streaming_aead.register()
    template = streaming_aead.streaming_aead_key_templates.AES256_GCM_HKDF_1MB
    return tink.new_keyset_handle(template).primitive(streaming_aead.StreamingAead)


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise TidegateError(f"{Path(command[0]).name} failed: {done.stderr.strip()[-200:]}")
    return done.stdout
