"""Two inner and two outer halves in real processes, each outer one with a lane to each inner one.

`west` runs the strong model alone, from a folder in the clear. `east` runs the same one sealed, and
only with `rank`, which opens and runs the other half of it.
"""

from __future__ import annotations

import asyncio
import http.client
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import tiny_pair
from openai import OpenAI
from proof_world import SHAPE, write_folder
from sealed_world import OWNER

from tidegate.cli.toml import to_toml
from tidegate.config import Lane, Ranks, Sealed, Settings
from tidegate.serve.outer.control import Reply, Request, ask
from tidegate.vault.kms_local import LocalKms
from tidegate.vault.seal import seal

INNERS = ("east", "west")
OUTERS = ("front", "side")
RANK = "rank"
PATIENCE = 90.0
LETTERS_ONLY = {str(token): -100 for token in range(95, tiny_pair.VOCABULARY)}


def until(told: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not told():
        assert time.monotonic() < deadline
        time.sleep(0.05)


class Mesh:
    """Writes everybody's settings; starts, kills and ends processes by their names."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        strong = folder / "strong"
        write_folder(strong, replace(SHAPE, context_length=tiny_pair.CONTEXT))
        weak = tiny_pair.write_ngram(folder / "weak", strong)
        kms = LocalKms.create(folder / "kms")
        seal(strong, folder / "sealed", model="tiny", kms=kms, signer=OWNER, shard_bytes=9_000)
        (folder / "owner.pub").write_text(OWNER.verifier.encode() + "\n")
        tokenizer = folder / "words"
        tokenizer.mkdir()
        tiny_pair.write_tokenizer(tokenizer)
        base = tiny_pair.settings(folder, strong, weak)
        for name in INNERS:
            place = folder / f"{name}-inner"
            parted: dict[str, Any] = {
                "models": {"strong": str(folder / "sealed")},
                "sealed": Sealed(owner=folder / "owner.pub", kms=f"local:{folder / 'kms'}"),
                "ranks": Ranks(
                    addresses=(str(folder / "rank.sock"),), secret_file=folder / "ranks.secret"
                ),
            }
            self._write(
                base,
                name,
                **(parted if name == "east" else {}),
                link={"address": str(folder / f"{name}.sock")},
                lanes={outer: Lane(secret_file=self._secret(name, outer)) for outer in OUTERS},
                inner={"ledger": place.with_suffix(".sqlite"), "drain_s": 5},
            )
        for name in OUTERS:
            self._write(
                base,
                name,
                models={"strong": "smollm2", "tokenizer": str(tokenizer)},
                lanes={
                    inner: Lane(
                        address=str(folder / f"{inner}.sock"),
                        secret_file=self._secret(inner, name),
                    )
                    for inner in INNERS
                },
                outer={
                    "ledger": folder / f"{name}.sqlite",
                    "lane_ledger": folder / f"{name}-lanes.sqlite",
                    "control": str(folder / f"{name}.control"),
                    "seed_key_file": folder / f"{name}.seed",
                    "drain_s": 30,
                },
            )

    def start(self, name: str) -> None:
        self.ready(name).unlink(missing_ok=True)
        half = "inner" if name in INNERS else "outer"
        does = ["rank", "1"] if name == RANK else [half]
        file = "east" if name == RANK else name
        command = [sys.executable, "-m", "tidegate", "serve", *does]
        command += ["--settings", str(self.folder / f"{file}.toml")]
        command += ["--ready-file", str(self.ready(name))]
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(command, stdout=log, stderr=log)

    def start_all(self) -> None:
        self.start(RANK)
        self.until_ready(RANK)
        for name in (*INNERS, *OUTERS):
            self.start(name)
        for name in (*INNERS, *OUTERS):
            self.until_ready(name)
        for name in OUTERS:
            until(lambda name=name: self.all_up(name))

    def until_ready(self, name: str) -> None:
        until(lambda: self.ready(name).exists() or self.processes[name].poll() is not None)
        assert self.processes[name].poll() is None, self.log(name)

    def kill(self, name: str) -> None:
        self.ready(name).unlink()
        self.processes[name].kill()
        self.processes[name].wait()

    def end(self, name: str) -> int:
        self.processes[name].terminate()
        return self.processes[name].wait(PATIENCE)

    def close(self) -> None:
        for process in self.processes.values():
            process.kill()
            process.wait()

    def ready(self, name: str) -> Path:
        return self.folder / f"{name}.ready"

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """`tidegate serve …`, as an operator runs it; `words` end with an outer half's name."""
        *does, name = words
        settings = ["--settings", str(self.folder / f"{name}.toml")]
        command = [sys.executable, "-m", "tidegate", "serve", *does, *settings]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def control(self, name: str, do: Literal["show", "drain", "undrain"], lane: str = "") -> Reply:
        """What the commands ask of an outer half, without the time that they take to start."""
        reply = asyncio.run(ask(str(self.folder / f"{name}.control"), Request(do, lane)))
        assert not reply.error, reply.error
        return reply

    def states(self, name: str) -> dict[str, str]:
        """An outer half's lanes by name."""
        return {lane.name: lane.state for lane in self.control(name, "show").lanes}

    def all_up(self, name: str) -> bool:
        return set(self.states(name).values()) == {"up"}

    def probe(self, name: str, path: str) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self.port(name), timeout=10)
        try:
            connection.request("GET", path)
            return connection.getresponse().status
        finally:
            connection.close()

    def port(self, name: str) -> int:
        return int(self.ready(name).read_text())

    def client(self, name: str) -> OpenAI:
        url = f"http://127.0.0.1:{self.port(name)}/v1"
        return OpenAI(base_url=url, api_key="tidegate-demo", max_retries=0, timeout=PATIENCE)

    def ask(self, name: str, **more: Any) -> Any:
        asked = {"max_tokens": 20, "temperature": 0.7, "logit_bias": LETTERS_ONLY} | more
        return self.client(name).chat.completions.create(
            model="tidegate", messages=[{"role": "user", "content": "tell me"}], **asked
        )

    def _secret(self, inner: str, outer: str) -> Path:
        return self.folder / f"{inner}-{outer}.secret"

    def _write(self, base: Settings, name: str, **changes: Any) -> None:
        update = {
            section: getattr(base, section).model_copy(update=values)
            if isinstance(values, dict) and section != "lanes"
            else values
            for section, values in changes.items()
        }
        chosen = base.model_copy(update=update)
        (self.folder / f"{name}.toml").write_text(to_toml(chosen), encoding="utf-8")
