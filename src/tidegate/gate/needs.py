"""What the gate needs of a host, looked at before anything is changed."""

from __future__ import annotations

import os
import shutil
import subprocess

from tidegate.errors import GateError

_TOOLS = {"nft": "nftables", "ip": "iproute2", "tc": "iproute2"}


def missing() -> tuple[str, ...]:
    """What this process lacks to run a gate, each as a sentence; nothing where it can."""
    if os.geteuid() != 0:
        return ("the gate changes the kernel's rules: run it as root",)
    lacking = [
        f"there is no `{tool}`: install the package {package}"
        for tool, package in _TOOLS.items()
        if shutil.which(tool) is None
    ]
    if not lacking and not _kernel_answers():
        lacking.append("the kernel does not answer nft: it lacks nf_tables, or CAP_NET_ADMIN")
    return tuple(lacking)


def require() -> None:
    """Raises GateError naming everything that is missing."""
    if lacking := missing():
        raise GateError("; ".join(lacking), missing=len(lacking))


def _kernel_answers() -> bool:
    return subprocess.run(["nft", "list", "tables"], capture_output=True).returncode == 0  # noqa: S607
