"""`tidegate`: every command group, and how errors end a command."""

from __future__ import annotations

import sys
from typing import NoReturn

import typer
from rich.console import Console
from rich.text import Text

from tidegate import __version__
from tidegate.cli import (
    audit,
    bench,
    bench_console,
    bench_exact,
    bench_fleet,
    bench_gate,
    bench_plan,
    bench_scan,
    bench_vault,
    bench_verify,
    console,
    exact,
    fleet,
    gate,
    gate_demo,
    gate_flow,
    gate_grid,
    gate_watch,
    ledger,
    log,
    log_follow,
    models,
    plan,
    prove,
    redteam,
    review,
    scan,
    serve,
    serve_lanes,
    vault,
    vault_broker,
    vault_demo,
    vault_grant,
    vault_host,
    vault_kms,
    vault_lease,
    vault_open,
    vault_seal,
    verify,
    witness,
)
from tidegate.cli.attest import attest
from tidegate.cli.demo import demo
from tidegate.cli.report import report
from tidegate.cli.up import up
from tidegate.errors import TidegateError

app = typer.Typer(
    rich_markup_mode="markdown",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Keeps a model's weights from leaving: users keep the OpenAI API, the machines that hold "
    "the weights send out a few bits a token, and a ledger charges every one.",
)
app.command()(demo)
app.command()(up)
app.command()(attest)
for lane_command in (serve_lanes.lanes, serve_lanes.drain, serve_lanes.undrain):
    serve.app.command()(lane_command)
app.add_typer(serve.app, name="serve")
app.add_typer(ledger.app, name="ledger")
log.app.command()(log_follow.follow)
log.app.command()(log_follow.serve)
app.add_typer(log.app, name="log")
app.add_typer(witness.app, name="witness")
app.add_typer(review.app, name="review")
bench.app.command()(bench_console.console)
bench.app.command()(bench_exact.exact)
bench.app.command()(bench_fleet.fleet)
bench.app.command()(bench_gate.gate)
bench.app.command()(bench_plan.plan)
bench.app.command()(bench_scan.scan)
bench.app.command()(bench_vault.vault)
bench.app.command()(bench_verify.verify)
app.add_typer(bench.app, name="bench")
app.add_typer(console.app, name="console")
app.add_typer(models.app, name="models")
app.add_typer(exact.app, name="exact")
gate.app.command()(gate_demo.demo)
gate.app.command()(gate_grid.grid)
gate.app.command()(gate_watch.watch)
gate.app.command()(gate_watch.incident)
gate.app.add_typer(gate_flow.app, name="flow")
app.add_typer(gate.app, name="gate")
app.add_typer(plan.app, name="plan")
app.add_typer(prove.app, name="prove")
app.add_typer(scan.app, name="scan")
for command in (
    vault_seal.seal,
    vault_seal.verify,
    vault_seal.rewrap,
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
):
    vault.app.command()(command)
vault.app.command("open")(vault_open.open_model)
vault.app.add_typer(vault_host.app, name="host")
vault.app.add_typer(vault_kms.app, name="kms")
app.add_typer(vault.app, name="vault")
app.add_typer(verify.app, name="verify")
app.add_typer(fleet.app, name="fleet")
app.add_typer(audit.app, name="audit")
app.command()(report)
app.add_typer(redteam.app, name="redteam")


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


def main() -> None:
    """Run the command line; what the user can mend is one sentence and status 2."""
    try:
        app(prog_name="tidegate")
    except TidegateError as error:
        _fail(error.message)
    except OSError as error:
        # A folder that cannot be written, a full disk: named by the system, not by us.
        where = f"{error.filename}: " if error.filename else ""
        _fail(f"{where}{error.strerror or error}")


def _fail(sentence: str) -> NoReturn:
    told = Text.assemble(("error: ", "red"), sentence)
    Console(stderr=True).print(told, soft_wrap=True)
    sys.exit(2)
