"""A thief who owns the namespace `inner`, against the gate as it is: what did he get out?

Every attack has a world and a gate of its own, with full quotas and all meters. The thief is root
inside, knows the policy, and works with a friend outside who counts every byte that arrives and
puts the secret together. What arrives is held against the quotas of the classes that the attack
can use; the ledger's count stands beside it.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import msgspec

from tidegate.errors import ConfigError, GateError
from tidegate.gate.policy import Policy, parse
from tidegate.gate.staged import Staged, staged
from tidegate.gate.worlds import INNER, OUTSIDE, World, world
from tidegate.redteam.thief_catalogue import ATTACKS, Attack
from tidegate.redteam.thief_receiver import Haul

Progress = Callable[[str, int, int], None]

SECONDS: Final = 4.0
LIFETIME: Final = 900_000
ALWAYS: Final = ("icmp", "arp")
"""Classes without which no neighbour is found, in any attack."""
_REST_S = 0.3

_POLICY = """
lifetime = {lifetime}
[interfaces]
inside = "inside"
outside = "out"
[classes.api]
protocol = "tcp"
to_ports = [443]
quota = {api}
[classes.ssh]
protocol = "tcp"
to_ports = [22]
quota = {ssh}
[classes.dns]
protocol = "udp"
to_ports = [53]
quota = {dns}
[classes.icmp]
protocol = "icmp"
quota = {icmp}
[classes.arp]
protocol = "arp"
quota = {arp}
"""


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """One attack. Bytes are those of frames on the wire, Ethernet headers included.

    `sent`: what the thief offered. `received`: all that arrived outside. `secret`: bytes of the
    secret in it that were right. `timing_bits`: what arrived beside them, in when frames came.
    `cap`: the quotas of the classes he could use, at most the lifetime's. `ledger`: what the ledger
    was charged.
    """

    attack: str
    says: str
    sent: int
    received: int
    frames: int
    secret: int
    timing_bits: float
    cap: int
    ledger: int

    @property
    def over(self) -> int:
        """Bytes that arrived above the cap, those said by time included; negative where below."""
        said = self.secret + self.timing_bits / 8
        return max(self.received, int(said)) - self.cap

    @property
    def uncharged(self) -> int:
        """Bytes that arrived and that the ledger does not know of; negative where it has more."""
        return self.received - self.ledger


def policy(lifetime: int = LIFETIME) -> Policy:
    """The policy that is attacked; its quotas add up to more than the lifetime."""
    shares = {"api": 6, "ssh": 2, "dns": 2, "icmp": 1}
    quotas = {name: share * lifetime // 9 for name, share in shares.items()}
    return parse(_POLICY.format(lifetime=lifetime, arp=lifetime // 45, **quotas))


def chosen(names: Sequence[str] | None) -> tuple[Attack, ...]:
    """The attacks of these names, or all. Raises ConfigError for one that there is not."""
    known = {attack.name: attack for attack in ATTACKS}
    for name in names or ():
        if name not in known:
            raise ConfigError(f"there is no theft {name!r}; choose of {', '.join(known)}")
    return tuple(known[name] for name in names) if names else ATTACKS


def run(
    names: Sequence[str] | None = None,
    *,
    seconds: float = SECONDS,
    lifetime: int = LIFETIME,
    progress: Progress = lambda *_: None,
) -> tuple[Result, ...]:
    """Run attacks, one after the other.

    Raises:
        ConfigError: there is no attack of a name.
        GateError: the host cannot make the world, or a program in it fails.
    """
    attacks = chosen(names)
    results = []
    for number, attack in enumerate(attacks):
        progress(f"thief: {attack.name}", number, len(attacks))
        with world() as made:
            results.append(_attacked(made, attack, policy(lifetime), seconds))
    progress("thief", len(attacks), len(attacks))
    return tuple(results)


def unguarded(name: str, *, seconds: float = SECONDS) -> Haul:
    """What the same attack gets out where nothing but a router stands in between.

    Raises as `run`.
    """
    (attack,) = chosen([name])
    with world() as made:
        receiver = _receiver(made)
        _line(_sender(made, attack, seconds))
        threading.Event().wait(_REST_S)
        return _counted(receiver)


def _attacked(made: World, attack: Attack, rules: Policy, seconds: float) -> Result:
    receivers: list[subprocess.Popen[bytes]] = []
    # Kernels greet their neighbours as interfaces come up; what counts is what passes the gate.
    with staged(made, rules, closed=lambda: receivers.append(_receiver(made))) as gate:
        sender = _sender(made, attack, seconds)
        if attack.reloads:
            _reloading(gate, sender)
        sent = int(_line(sender))
        # What waits in queues still comes.
        threading.Event().wait(_REST_S)
        gate.stop()
        ledger = gate.ledger_bytes()
    haul = _counted(receivers[0])
    return Result(
        attack=attack.name,
        says=attack.says,
        sent=sent,
        received=haul.wire_bytes,
        frames=haul.frames,
        secret=haul.secret_bytes,
        timing_bits=haul.timing_bits,
        cap=_cap(rules, attack),
        ledger=ledger,
    )


def _receiver(made: World) -> subprocess.Popen[bytes]:
    receiver = _program(made, OUTSIDE, "thief_receiver")
    if _line(receiver) != "ready":
        raise GateError("the thief's receiver did not start")
    return receiver


def _sender(made: World, attack: Attack, seconds: float) -> subprocess.Popen[bytes]:
    return _program(made, INNER, "thief_sender", attack.name, str(seconds))


def _counted(receiver: subprocess.Popen[bytes]) -> Haul:
    receiver.terminate()
    return msgspec.json.decode(_line(receiver), type=Haul)


def _reloading(gate: Staged, sender: subprocess.Popen[bytes]) -> None:
    for other in _policies(gate.gate.policy):
        if sender.poll() is not None:
            return
        gate.reload(other)


def _policies(rules: Policy) -> Iterator[Policy]:
    """Ever other policies with the same quotas: a longer lease and back."""
    while True:
        yield rules.model_copy(update={"lease_ms": rules.lease_ms - 1})
        yield rules


def _cap(rules: Policy, attack: Attack) -> int:
    usable = sum(rules.classes[name].quota for name in (*attack.classes, *ALWAYS))
    return min(rules.lifetime, usable)


def _program(made: World, role: str, name: str, *arguments: str) -> subprocess.Popen[bytes]:
    argv = [sys.executable, "-m", f"tidegate.redteam.{name}", *arguments]
    return made.popen(role, argv, pipe=True)


def _line(program: subprocess.Popen[bytes]) -> str:
    line = program.stdout.readline().decode().strip() if program.stdout else ""
    if not line:
        raise GateError("a program of the thief ended before it was done")
    return line
