"""Two halves as real processes, with a meter on the wire between them."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import openai
import tiny_pair
from openai import OpenAI

from tidegate.cli.ground import budgets_of
from tidegate.cli.toml import to_toml
from tidegate.config import Settings
from tidegate.ledger import TOTAL, Sound, SqliteStore, verify
from tidegate.ledger.state import State
from tidegate.ledger.verify import catch_up

PATIENCE = 60.0
LETTERS_ONLY = {str(token): -100 for token in range(95, tiny_pair.VOCABULARY)}


class Halves:
    """Two halves started and ended one by one, over a metered link."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self.folder = folder
        self.settings = settings
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.meter = tiny_pair.Meter(folder / "link.sock", folder / "inside.sock")
        self.write("inner")
        self.write("outer")

    def write(self, half: str, weak: Path | None = None) -> None:
        """Settings of one half: the meter stands where the outer one looks for the inner one."""
        chosen = self.settings
        update: dict[str, object] = {}
        if half == "inner":
            address = str(self.folder / "inside.sock")
            update["link"] = chosen.link.model_copy(update={"address": address})
        if weak is not None:
            update["models"] = chosen.models.model_copy(update={"weak": str(weak)})
        text = to_toml(chosen.model_copy(update=update))
        (self.folder / f"{half}.toml").write_text(text, encoding="utf-8")

    def restart(self, half: str, weak: Path) -> None:
        """End a half in good order and start it with another weak model."""
        self.processes[half].terminate()
        assert self.processes[half].wait(PATIENCE) == 0
        self.write(half, weak)
        self.start(half)

    def start(self, half: str) -> None:
        ready = ["--ready-file", str(self.folder / "ready")] if half == "outer" else []
        command = [sys.executable, "-m", "tidegate", "serve", half, *ready]
        with (self.folder / f"{half}.log").open("ab") as log:
            self.processes[half] = subprocess.Popen(
                [*command, "--settings", str(self.folder / f"{half}.toml")], stdout=log, stderr=log
            )

    def kill(self, half: str) -> None:
        self.processes[half].kill()
        self.processes[half].wait()

    def stop(self) -> None:
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            process.wait(PATIENCE)
        self.meter.close()

    def log(self, half: str) -> str:
        return (self.folder / f"{half}.log").read_text()

    def client(self) -> OpenAI:
        port = self.settings.outer.port
        return OpenAI(
            base_url=f"http://127.0.0.1:{port}/v1", api_key="tidegate-demo", max_retries=0
        )

    def answered(self) -> bool:
        try:
            return ask(self.client(), max_tokens=2).usage.completion_tokens == 2
        except openai.OpenAIError:
            return False

    def counted(self, half: str) -> int:
        """Bits spent and held in a half's ledger, read as an auditor would, without a writer."""
        path = getattr(self.settings, half).ledger
        budgets = budgets_of(self.settings, 1)
        state = catch_up(SqliteStore(path), State(budgets))
        account = state.account(TOTAL)
        return account.spent + account.reserved

    def sound(self, half: str) -> bool:
        path = getattr(self.settings, half).ledger
        return isinstance(verify(SqliteStore(path), budgets_of(self.settings, 1)), Sound)


def until(told: Any) -> None:
    deadline = time.monotonic() + PATIENCE
    while not told():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def ask(client: OpenAI, **more: Any) -> Any:
    asked = {"max_tokens": 1000, "temperature": 0.7, "logit_bias": LETTERS_ONLY} | more
    return client.chat.completions.create(
        model="tidegate", messages=[{"role": "user", "content": "tell me"}], **asked
    )


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port
