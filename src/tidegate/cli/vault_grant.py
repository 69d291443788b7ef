"""`tidegate vault request|approve|deny|pending|status|revoke`: what people do with grants."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ParamSpec

import msgspec
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tidegate.disk import replace_whole
from tidegate.errors import ConfigError

if TYPE_CHECKING:
    # Loaded when a command runs: without the extra `vault` the other commands still work.
    from tidegate.vault.api_bodies import GrantView
    from tidegate.vault.api_client import BrokerClient
    from tidegate.vault.grant_entries import Assertion, Verdict
    from tidegate.vault.grant_policy import Policy

Url = Annotated[
    str,
    typer.Option("--broker", envvar="TIDEGATE_VAULT_BROKER", help="The broker, as https://…"),
]
TokenFile = Annotated[
    Path,
    typer.Option(
        envvar="TIDEGATE_VAULT_TOKEN_FILE", help="A file with your token and nothing else."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="For machines.")]
GrantArgument = Annotated[str, typer.Argument(metavar="GRANT", help="Its id: 32 hex digits.")]
Team = Annotated[str, typer.Option(help="The team you speak for.")]
SoftwareKeyFile = Annotated[
    Path | None,
    typer.Option(help="A key in software instead of the one plugged in. Only for tests."),
]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask before signing.")]
DEFAULT_URL = "http://127.0.0.1:8443"
DEFAULT_TOKEN = Path("vault.token")
P = ParamSpec("P")


def refusable(command: Callable[P, None]) -> Callable[P, None]:
    """The command, which exits 1 where the rules refuse; 2 stays for what could not run."""

    @functools.wraps(command)
    def ending(*args: P.args, **kwargs: P.kwargs) -> None:
        from tidegate.vault.grant_errors import RefusedError

        try:
            command(*args, **kwargs)
        except RefusedError as error:
            Console(stderr=True).print(Text(error.message, "red"), soft_wrap=True)
            raise typer.Exit(1) from error

    return ending


def client_of(url: str, token_file: Path) -> BrokerClient:
    """A client with the token in a file. Raises ConfigError."""
    from tidegate.vault.api_client import BrokerClient

    try:
        token = token_file.read_text().strip()
    except OSError as error:
        raise ConfigError(f"cannot read your token in {token_file}: {error.strerror}") from error
    return BrokerClient(url, token)


@refusable
def request(
    model: Annotated[str, typer.Argument(help="The model's id, as its manifest has it.")],
    shards: Annotated[str, typer.Option(help="Their numbers, such as 0-3,7.")],
    host: Annotated[str, typer.Option(help="The host that will load them, as the policy has it.")],
    why: Annotated[str, typer.Option(help="For those who approve, and for the log.")],
    seconds: Annotated[int, typer.Option(min=1, help="How long, from the last approval on.")],
    break_glass: Annotated[
        bool, typer.Option(help="An emergency: fewer approvals, a short life, and alarms.")
    ] = False,
    broker: Url = DEFAULT_URL,
    token_file: TokenFile = DEFAULT_TOKEN,
    as_json: AsJson = False,
) -> None:
    """Ask for shards of a model on one host. Prints the grant's id, which approvers need."""
    from tidegate.vault.api_bodies import AskBody

    body = AskBody(
        why=why,
        model=model,
        shards=numbers(shards),
        host=host,
        seconds=seconds,
        break_glass=break_glass,
    )
    show([client_of(broker, token_file).ask(body)], as_json)


@refusable
def pending(
    broker: Url = DEFAULT_URL, token_file: TokenFile = DEFAULT_TOKEN, as_json: AsJson = False
) -> None:
    """List what waits for approvals, and whose."""
    show(client_of(broker, token_file).grants(pending=True), as_json)


@refusable
def status(
    grant: Annotated[str | None, typer.Argument(help="One grant; by default all.")] = None,
    broker: Url = DEFAULT_URL,
    token_file: TokenFile = DEFAULT_TOKEN,
    as_json: AsJson = False,
) -> None:
    """Show grants: who agreed, how long they live, how they ended."""
    client = client_of(broker, token_file)
    show([client.grant(grant)] if grant else client.grants(), as_json)


@refusable
def approve(
    grant: GrantArgument,
    team: Team,
    broker: Url = DEFAULT_URL,
    token_file: TokenFile = DEFAULT_TOKEN,
    software_key: SoftwareKeyFile = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Approve a request for your team, with your hardware key.

    What the key signs is the hash of the request as it is shown here, worked out on this machine.
    """
    show(
        [_judged(client_of(broker, token_file), grant, "approve", team, software_key, yes)], as_json
    )


@refusable
def deny(
    grant: GrantArgument,
    team: Team,
    reason: Annotated[str, typer.Option(help="For the requester, and for the log.")],
    broker: Url = DEFAULT_URL,
    token_file: TokenFile = DEFAULT_TOKEN,
    software_key: SoftwareKeyFile = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Deny a request, with your hardware key. One denial ends it."""
    client = client_of(broker, token_file)
    show([_judged(client, grant, "deny", team, software_key, yes, reason)], as_json)


@refusable
def revoke(
    grant: GrantArgument,
    reason: Annotated[str, typer.Option(help="For the log.")],
    broker: Url = DEFAULT_URL,
    token_file: TokenFile = DEFAULT_TOKEN,
    as_json: AsJson = False,
) -> None:
    """End a grant: nothing is released or renewed. Requester, approvers and operators may.

    A host that holds keys learns it when it next asks, at the latest when its lease ends. Somebody
    who owns that host can keep what it holds: seal the shards anew where that matters.
    """
    show([client_of(broker, token_file).revoke(grant, reason)], as_json)


def numbers(text: str) -> tuple[int, ...]:
    """`0-3,7` as numbers, ascending, each once. Raises ConfigError."""
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not (first.isdecimal() and (last.isdecimal() or not dash)):
            raise ConfigError(f"{text!r} is no list of shards; write 0-3,7")
        low, high = int(first), int(last or first)
        if high - low >= 1 << 16:
            raise ConfigError(f"{part} names too many shards")
        found |= set(range(low, high + 1))
    return tuple(sorted(found))


def show(grants: Sequence[GrantView], as_json: bool) -> None:
    """Grants as a table, or as JSON."""
    if as_json:
        typer.echo(msgspec.json.encode(grants).decode())
        return
    table = Table("grant", "who", "what", "where", "why", "state", "until (UTC)")
    for grant in grants:
        asked = grant.request
        glass = "[bold red]BREAK GLASS[/bold red] " if asked.break_glass else ""
        owed = ", ".join(f"{count} of {team}" for team, count in grant.missing.items())
        state = f"waits for {owed}" if owed else grant.ending or grant.status
        until = _hour(grant.until or grant.ends)
        what = f"{asked.model}: {_ranges(asked.shards)}"
        table.add_row(asked.id, asked.requester, what, asked.host, glass + _plain(asked.why),
                      _plain(state), until)  # fmt: skip
    Console().print(table)


def _judged(
    client: BrokerClient,
    name: str,
    verdict: Verdict,
    team: str,
    software_key: Path | None,
    yes: bool,
    reason: str = "",
) -> GrantView:
    from tidegate.vault.grant_entries import challenge_of

    found, policy = client.grant(name), client.policy()
    asked = found.request
    if asked.policy != policy.digest or asked.id != name:
        raise ConfigError(
            "the broker shows another request, or another policy than it was made under"
        )
    console = Console(stderr=True)
    console.print_json(msgspec.json.encode(asked).decode())
    if not yes:
        typer.confirm(f"{verdict} this, for {team}?", abort=True, err=True)
    # From what was shown, not from what the broker says its hash is.
    challenge = challenge_of(verdict, asked.digest)
    signed = _signed(challenge, policy, asked.break_glass, team, software_key, console)
    return client.judge(name, verdict, team, signed, reason)


def _signed(
    challenge: bytes,
    policy: Policy,
    break_glass: bool,
    team: str,
    software_key: Path | None,
    console: Console,
) -> Assertion:
    rp_id, origin = policy.rp_id, policy.origins[0]
    if software_key is None:
        from tidegate.cli.vault_touch import Touch
        from tidegate.vault.webauthn_device import ask

        # A key knows itself only among the credentials that it is asked for.
        members = [t.members for t in policy.teams_for(break_glass) if t.name == team]
        enrolled = [p.credentials for p in policy.people if members and p.name in members[0]]
        return ask(challenge, rp_id, origin, list(chain(*enrolled)), Touch(console))
    from tidegate.vault.webauthn_software import SoftwareKey

    try:
        key = SoftwareKey.decode(software_key.read_bytes())
    except OSError as error:
        raise ConfigError(f"cannot read {software_key}: {error.strerror}") from error
    signed = key.sign(challenge, rp_id, origin)
    replace_whole(software_key, key.encode())
    return signed


def _hour(milliseconds: int | None) -> str:
    if milliseconds is None:
        return ""
    return f"{datetime.fromtimestamp(milliseconds / 1000, UTC):%Y-%m-%d %H:%M:%S}"


def _plain(text: str) -> str:
    """What somebody else wrote, without the table's own marks."""
    return text.replace("[", r"\[")


def _ranges(shards: tuple[int, ...]) -> str:
    parts: list[list[int]] = []
    for number in shards:
        if parts and number == parts[-1][1] + 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ",".join(f"{low}" if low == high else f"{low}-{high}" for low, high in parts)
