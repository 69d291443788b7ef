"""A real console process, what it reads, a real broker, and a real headless Chromium."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import broker_server
import record_world
from console_world import NAMES, PASSWORD
from cryptography.hazmat.primitives import serialization

from tidegate.cli.ground import budgets_of
from tidegate.cli.parts import strong_parameters
from tidegate.cli.toml import to_toml
from tidegate.clock import SystemClock
from tidegate.config import Outer, Record, Settings
from tidegate.console.people import People
from tidegate.ledger import Ledger, SqliteStore
from tidegate.ledger.budgets import edge_between
from tidegate.units import Bits
from tidegate.verify.record_store_files import FileStore

_PATIENCE_S = 120.0


class Site:
    """A console and its sources: a ledger, a record, findings, a broker. Nothing else runs."""

    def __init__(self, folder: Path, broker: broker_server.Served, port: int) -> None:
        self.folder, self.broker, self.port = folder, broker, port
        self.url = f"http://localhost:{port}"
        self._findings = folder / "findings.jsonl"
        self._number = 0
        outer = Settings(
            outer=Outer(ledger=folder / "ledger.sqlite", port=1),
            record=Record(folder=folder / "record"),
        )
        (folder / "outer.toml").write_text(to_toml(outer))
        budgets = budgets_of(outer, strong_parameters(outer.models))
        self.ledger = Ledger(SqliteStore(outer.outer.ledger), budgets, SystemClock())
        self.edge = edge_between(*outer.budget.zones[:2])
        self.spend("team-a", 4096)
        store = FileStore(folder / "record")
        self.answer = record_world.RecordWorld(store).answer("r1", range(5, 15))
        self._write_settings()

    def spend(self, principal: str, bits: int) -> None:
        """Bits that crossed."""
        held = self.ledger.reserve(principal, self.edge, Bits(bits))
        self.ledger.commit(held, Bits(bits))

    def find(self, title: str, severity: int = 5, **evidence: object) -> None:
        """Somebody appends a finding."""
        self._number += 1
        body = {
            "finding_info": {"uid": f"f{self._number}", "title": title, "types": ["weights"]},
            "time": int(1000 * time.time()),
            "severity_id": severity,
            "resources": [{"name": "team-a"}],
            "evidences": [evidence],
        }
        with self._findings.open("a") as file:
            file.write(json.dumps(body) + "\n")

    def _write_settings(self) -> None:
        tokens = self.folder / "tokens"
        tokens.mkdir()
        for name in ("ann", "ron"):
            (tokens / f"{name}.token").write_text(self.broker.tokens[name])
        (self.folder / "reader.token").write_text(self.broker.tokens["oscar"])
        (self.folder / "console.toml").write_text(
            f'name = "test"\nport = {self.port}\nfolder = "state"\nouter = "outer.toml"\n'
            'findings = { gate = "findings.jsonl" }\n'
            f'[broker]\nurl = "{self.broker.url}"\nreader = "reader.token"\ntokens = "tokens"\n'
        )
        people = People(self.folder / "state" / "people.json")
        for name, role in NAMES.items():
            people.put(name, role, PASSWORD, reads_prompts=name == "olga")


@contextmanager
def running(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The console as a process, once it answers."""
    ready = folder / "ready"
    ready.unlink(missing_ok=True)
    command = [sys.executable, "-m", "tidegate", "console", "serve", str(folder / "console.toml")]
    with (folder / "console.log").open("ab") as log:
        process = subprocess.Popen(
            [*command, "--ready-file", str(ready)], stdout=log, stderr=log, env=os.environ
        )
    deadline = time.monotonic() + _PATIENCE_S
    try:
        while not (ready.exists() and ready.read_text()):
            assert process.poll() is None, (folder / "console.log").read_text()
            assert time.monotonic() < deadline, "the console does not start"
            time.sleep(0.05)
        yield process
    finally:
        process.terminate()
        process.wait(30)


class Tab:
    """A page, what it asked for, and what it complained of."""

    def __init__(self, browser: object, url: str, **options: object) -> None:
        self.url = url
        self.context = browser.new_context(**options)  # type: ignore[attr-defined]
        self.page = self.context.new_page()
        self.page.set_default_timeout(1000 * 20)
        self.asked: list[str] = []
        self.errors: list[str] = []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on(
            "console",
            lambda said: self.errors.append(said.text) if said.type in ("error", "warning") else 0,
        )

    def log_in(self, name: str) -> None:
        """To the page, with its first picture."""
        self.page.goto(f"{self.url}/")
        self.page.fill("[name=name]", name)
        self.page.fill("[name=password]", PASSWORD)
        self.page.click("button[type=submit]")
        self.page.wait_for_selector("#fresh.good")

    def plug_in(self, key: object) -> None:
        """A hardware key, as Chromium makes believe; touched and unlocked whenever it is asked."""
        session = self.context.new_cdp_session(self.page)
        session.send("WebAuthn.enable")
        options = {
            "protocol": "ctap2",
            "transport": "usb",
            "hasUserVerification": True,
            "isUserVerified": True,
        }
        made = session.send("WebAuthn.addVirtualAuthenticator", {"options": options})
        private = key.private.private_bytes(  # type: ignore[attr-defined]
            serialization.Encoding.DER,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        credential = {
            "credentialId": base64.b64encode(key.id).decode(),  # type: ignore[attr-defined]
            "isResidentCredential": False,
            "rpId": "localhost",
            "privateKey": base64.b64encode(private).decode(),
            "signCount": 0,
        }
        session.send(
            "WebAuthn.addCredential",
            {"authenticatorId": made["authenticatorId"], "credential": credential},
        )
