"""Every command group: what it consists of, imported when it is first asked for.

Importing all of them takes seconds of which a single command needs a fraction.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

import typer

Command: TypeAlias = Callable[..., None]


def demo() -> Command:
    from tidegate.cli.demo import demo

    return demo


def up() -> Command:
    from tidegate.cli.up import up

    return up


def attest() -> Command:
    from tidegate.cli.attest import attest

    return attest


def report() -> Command:
    from tidegate.cli.report import report

    return report


def serve() -> typer.Typer:
    from tidegate.cli import serve, serve_lanes

    return _with(serve.app, serve_lanes.lanes, serve_lanes.drain, serve_lanes.undrain)


def engine() -> typer.Typer:
    from tidegate.cli import engine

    return engine.app


def ledger() -> typer.Typer:
    from tidegate.cli import ledger, ledger_tables

    return _with(
        ledger.app,
        ledger_tables.migrate,
        ledger_tables.holders,
        ledger_tables.backup,
        ledger_tables.restore,
        ledger_tables.reconcile,
        ledger_tables.drill,
    )


def log() -> typer.Typer:
    from tidegate.cli import log, log_follow

    return _with(log.app, log_follow.follow, log_follow.serve)


def witness() -> typer.Typer:
    from tidegate.cli import witness

    return witness.app


def review() -> typer.Typer:
    from tidegate.cli import review

    return review.app


def bench() -> typer.Typer:
    from tidegate.cli import (
        bench,
        bench_capacity,
        bench_console,
        bench_exact,
        bench_fleet,
        bench_gate,
        bench_plan,
        bench_scan,
        bench_vault,
        bench_verify,
    )

    return _with(
        bench.app,
        bench_capacity.capacity,
        bench_console.console,
        bench_exact.exact,
        bench_fleet.fleet,
        bench_gate.gate,
        bench_plan.plan,
        bench_scan.scan,
        bench_vault.vault,
        bench_verify.verify,
    )


def console() -> typer.Typer:
    from tidegate.cli import console

    return console.app


def models() -> typer.Typer:
    from tidegate.cli import models

    return models.app


def exact() -> typer.Typer:
    from tidegate.cli import exact

    return exact.app


def gate() -> typer.Typer:
    from tidegate.cli import gate, gate_demo, gate_flow, gate_grid, gate_watch

    gate.app.add_typer(gate_flow.app, name="flow")
    return _with(gate.app, gate_demo.demo, gate_grid.grid, gate_watch.watch, gate_watch.incident)


def plan() -> typer.Typer:
    from tidegate.cli import plan, plan_capacity

    return _with(plan.app, plan_capacity.capacity)


def prove() -> typer.Typer:
    from tidegate.cli import prove

    return prove.app


def scan() -> typer.Typer:
    from tidegate.cli import scan

    return scan.app


def vault() -> typer.Typer:
    from tidegate.cli import (
        vault,
        vault_broker,
        vault_demo,
        vault_grant,
        vault_host,
        vault_kms,
        vault_lease,
        vault_open,
        vault_parts,
        vault_seal,
    )

    vault.app.command("open")(vault_open.open_model)
    vault.app.add_typer(vault_host.app, name="host")
    vault.app.add_typer(vault_kms.app, name="kms")
    return _with(
        vault.app,
        vault_seal.seal,
        vault_seal.verify,
        vault_seal.rewrap,
        vault_parts.parts,
        vault_grant.request,
        vault_grant.pending,
        vault_grant.approve,
        vault_grant.deny,
        vault_grant.status,
        vault_grant.revoke,
        vault_lease.release,
        vault_lease.renew,
        vault_broker.broker,
        vault_broker.token,
        vault_broker.key,
        vault_broker.current,
        vault_broker.check,
        vault_demo.demo,
    )


def verify() -> typer.Typer:
    from tidegate.cli import verify, verify_states

    return _with(verify.app, verify_states.states)


def fleet() -> typer.Typer:
    from tidegate.cli import fleet

    return fleet.app


def audit() -> typer.Typer:
    from tidegate.cli import audit

    return audit.app


def redteam() -> typer.Typer:
    from tidegate.cli import redteam

    return redteam.app


COMMANDS: Final[Mapping[str, Callable[[], Command]]] = {
    "demo": demo,
    "up": up,
    "attest": attest,
    "report": report,
}
"""Single commands by name."""

GROUPS: Final[Mapping[str, Callable[[], typer.Typer]]] = {
    "serve": serve,
    "ledger": ledger,
    "log": log,
    "witness": witness,
    "review": review,
    "bench": bench,
    "console": console,
    "models": models,
    "engine": engine,
    "exact": exact,
    "gate": gate,
    "plan": plan,
    "prove": prove,
    "scan": scan,
    "vault": vault,
    "verify": verify,
    "fleet": fleet,
    "audit": audit,
    "redteam": redteam,
}
"""Groups of commands by name, in the order in which `--help` shows them."""


def _with(app: typer.Typer, *commands: Command) -> typer.Typer:
    for command in commands:
        app.command()(command)
    return app
