"""`tidegate vault demo`: measure, quote, approve, release once, open, change a register, refuse."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, NamedTuple

import msgspec
import typer
from rich.console import Console
from rich.text import Text

from tidegate.errors import TidegateError

HONEST = (
    "The TPM of this demonstration is software (swtpm). It proves the protocol, and no hardware: "
    "whoever runs it can read its keys and set its registers."
)
_PCR = 14
"""Where Linux's shim and boot loaders leave room for the owner's own measurements."""


class Step(NamedTuple):
    """One step: what should happen, whether it did, and what was seen."""

    name: str
    held: bool
    seen: str


def demo(
    as_json: Annotated[bool, typer.Option("--json", help="Steps as one JSON object.")] = False,
) -> None:
    """Show custody from end to end on this machine, with a TPM in software.

    Seals a small model; makes two hosts known by their TPMs; asks for one shard; has two teams
    approve; releases the key once, sealed to the attested host; opens the shard; tries the same
    grant again, another host and another register. Needs swtpm, swtpm-tools, tpm2-tools (Debian).
    Exits 0 if every step held, 1 if one did not, 2 if it could not run.
    """
    console = Console(stderr=as_json)
    console.print(Text(HONEST, style="yellow"))
    steps: list[Step] = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tidegate-vault-")))
        for step in _steps(folder, stack):
            steps.append(step)
            mark = Text("held  ", "green") if step.held else Text("FAILED ", "bold red")
            console.print(Text.assemble(mark, (step.name, "bold"), ": ", step.seen))
    held = all(step.held for step in steps)
    if as_json:
        body = {"holds": held, "limits": HONEST, "steps": [step._asdict() for step in steps]}
        typer.echo(msgspec.json.format(msgspec.json.encode(body), indent=1).decode())
    raise typer.Exit(0 if held else 1)


def _steps(folder: Path, stack: ExitStack) -> Iterator[Step]:
    from tidegate.cli import vault_demo_world as world
    from tidegate.vault.tpm_live_software import software_tpm

    # 1. Measure: two hosts, each with a TPM whose maker certified it.
    gpu1 = stack.enter_context(software_tpm(folder / "tpm1"))
    gpu2 = stack.enter_context(software_tpm(folder / "tpm2"))
    known = [world.made_known("gpu1", gpu1), world.made_known("gpu2", gpu2)]
    checks = known[0].appraisal.checks
    yield Step("measure", True, f"both hosts made known by their TPMs, {len(checks)} checks each")
    # 2. Seal.
    sealed, kms = world.sealed_model(folder)
    custody = world.Custody(folder, sealed, kms, known)
    broker, shards = custody.broker, len(sealed.manifest.shards)
    yield Step("seal", shards > 2, f"a small model in {shards} shards, each under its own key")
    # 3. Ask, and have two teams approve.
    request = custody.ask([1])
    lease = custody.lease(request, gpu1)
    yield _refused("quote before approval", lease.acquire)
    owed = custody.approve("security", request).status
    yield Step("approve, first team", owed == "pending", "one team is not enough")
    status = custody.approve("research", request).status
    yield Step("approve, second team", status == "approved", "both teams signed this very request")
    # 4. Another host tries first.
    yield _refused("another host", custody.lease(request, gpu2).acquire)
    # 5. Release, once.
    lease.acquire()
    yield Step("release", lease.check(), f"one key, sealed to gpu1; lease {lease.left():.0f} s")
    # 6. Open.
    with sealed.open_shard(1, lease.key(1)) as shard:
        size = sealed.manifest.shard(1).size
        opened = bytes(shard.read(0, size))
    at = sealed.manifest.shard(1)
    plain = (folder / "plain" / at.file).read_bytes()[at.offset : at.offset + at.size]
    yield Step("open", opened == plain, f"shard 1, {size:,} bytes, equal to what was sealed")
    yield _refused("a shard outside the grant", lambda: lease.key(0))
    # 7. The same grant again.
    yield _refused("the same grant again", custody.lease(request, gpu1).acquire)
    # 8. Renew while all is as approved; then measure something else.
    yield Step("renew", lease.renew(), "the registers are still those that were approved")
    gpu1.tpm.extend(_PCR, bytes(32))
    held = lease.renew()
    yield Step("renew after a register changed", not held, "refused; the host wiped its key")
    # 9. New approvals do not help a host that measures something else.
    again = custody.ask([1])
    custody.approve("security", again)
    custody.approve("research", again)
    yield _refused("release after a register changed", custody.lease(again, gpu1).acquire)
    # 10. All of it is in the log.
    releases = [e.entry.body for e in custody.log.entries() if e.entry.kind == "release"]
    told = f"{custody.log.size} entries, one release; {len(broker.state().grants)} grants"
    yield Step("log", len(releases) == 1, told)


def _refused(name: str, attempt: object) -> Step:
    try:
        if callable(attempt):
            attempt()
    except TidegateError as error:
        return Step(name, True, error.message)
    return Step(name, False, "was not refused")
