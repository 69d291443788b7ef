"""The pure core: decisions follow from state and command, and a restart computes the same."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest
from grant_world import MANIFEST, MODEL, SHARDS, World
from hypothesis import given
from hypothesis import strategies as st

from tidegate.attest.outcome import CannotVerify
from tidegate.errors import ConfigError
from tidegate.ledger.entries import next_head
from tidegate.ledger.state import Row
from tidegate.vault import grant_commands as commands
from tidegate.vault import grant_rules
from tidegate.vault.broker import _unread
from tidegate.vault.grant_decide import Append, HandOver, Notify, Refuse, decide
from tidegate.vault.grant_entries import NO_GRANT, Request, encode, parse
from tidegate.vault.grant_errors import GrantError, RefusedError
from tidegate.vault.grant_policy import BreakGlass, Team, Window, read_policy
from tidegate.vault.grant_state import FROM, State, Status, folded
from tidegate.vault.notify import Quiet
from tidegate.vault.release_seal import hash_of

WORLD = World()
ASKED = WORLD.ask()
NOW = datetime(2027, 1, 1, tzinfo=UTC)


def replayed(world: World) -> State:
    state = State()
    for row in world.store.read(0, 9999):
        state = folded(state, row)
    return state


def test_a_restart_computes_the_state_that_was_lived() -> None:
    world = World()
    request, _ = world.leased()
    world.ask(by="rob")
    world.broker.revoke("alice", request.id, "done early")
    assert replayed(world) == world.broker.state()


def test_deciding_changes_nothing_it_was_given() -> None:
    world = World()
    request = world.approved()
    before = world.broker.state()
    copy = msgspec.json.encode(
        [(name, grant.status, grant.approvals) for name, grant in before.grants.items()]
    )
    first = decide(before, commands.Revoke("alice", request.id, "x"), time=before.time, wall=0)
    again = decide(before, commands.Revoke("alice", request.id, "x"), time=before.time, wall=0)
    assert first == again
    assert copy == msgspec.json.encode(
        [(name, grant.status, grant.approvals) for name, grant in before.grants.items()]
    )


def test_a_hand_over_comes_after_the_rows_and_last_of_all() -> None:
    world = World()
    request = world.approved()
    evidence = world.evidence(request)
    state, key = world.broker.state(), hash_of(world.machine.public)
    seen = world.broker._seen(state.grants[request.id], evidence, "release", key)
    release = commands.Release("alice", request.id, seen, key)
    after, effects = decide(state, release, time=state.time, wall=0)
    assert [type(effect) for effect in effects] == [Append, Notify, HandOver]
    _, effects = decide(after, release, time=after.time, wall=0)
    assert [type(effect) for effect in effects] == [Append, Notify, Refuse]


def test_nothing_leads_back_to_a_state_from_which_keys_leave() -> None:
    released = [kind for kind, froms in FROM.items() if Status.APPROVED in froms]
    assert sorted(kind.__name__ for kind in released) == [
        "Challenged",
        "Expired",
        "Released",
        "Revoked",
    ]
    assert all(Status.ENDED not in froms for froms in FROM.values())


def test_without_a_policy_nothing_is_decided() -> None:
    state, effects = decide(State(), commands.Tick(), time=5, wall=5)
    assert state == State()
    assert isinstance(effects[-1], Refuse)


def test_every_command_has_its_checks_and_every_check_its_own_name() -> None:
    assert set(grant_rules.CHECKS) == set(commands.Command.__args__)
    for checks in grant_rules.CHECKS.values():
        names = [name for name, _ in checks]
        assert len(names) == len(set(names))


# Times


def test_the_clock_of_a_grant_starts_at_its_last_approval() -> None:
    world = World()
    request = world.ask(seconds=1000)
    world.approve("ann", request)
    world.clock.advance(500)
    world.approve("ron", request)
    grant = world.broker.grant(request.id)
    assert grant.approved == grant.approvals[-1].time
    assert grant.ends == (grant.approved or 0) + 1_000_000
    assert grant.ends - request.time == 1_500_000


@pytest.mark.parametrize(
    ("setting", "what"),
    [("request_s", "pending"), ("release_s", "approved"), ("lease_s", "leased")],
)
def test_what_is_not_used_in_time_ends(setting: str, what: str) -> None:
    world = World(**{setting: 100})
    request = {
        "pending": world.ask,
        "approved": world.approved,
        "leased": lambda: world.leased()[0],
    }[what]()
    world.clock.advance(99)
    world.broker.sweep()
    assert world.broker.grant(request.id).status.value == what
    world.clock.advance(1)
    world.broker.sweep()
    assert world.broker.grant(request.id).ending == f"expired while {what}"
    with pytest.raises(RefusedError, match="expired"):
        world.broker.challenge("alice", request.id)


def test_no_lease_outlives_its_grant() -> None:
    world = World(lease_s=600)
    request, package = world.leased(seconds=100)
    assert package.lease == 100_000
    grant = world.broker.grant(request.id)
    assert grant.until == grant.ends


def test_a_week_has_the_days_it_has() -> None:
    # 1 January 1970, 00:00 UTC, was a Thursday.
    assert Window(days=("thu",)).holds(0)
    assert not Window(days=("wed",)).holds(0)
    assert Window(days=("wed",)).holds(-1)
    assert Window(start=60, end=61).holds(3_600_000)
    assert not Window(start=60, end=61).holds(3_660_000)


# Break-glass


def test_broken_glass_is_loud_short_and_still_attested() -> None:
    world = World()
    with pytest.raises(RefusedError, match="1800 s"):
        world.ask(break_glass=True, seconds=3600)
    request = world.ask(break_glass=True, seconds=1800)
    with pytest.raises(RefusedError, match="the team is asked"):
        world.approve("ann", request)
    world.approve("sam", request, "on-call")
    assert world.broker.grant(request.id).status is Status.APPROVED
    world.machine.pcr = False
    with pytest.raises(RefusedError, match="the evidence passed"):
        world.release(request)
    world.machine.pcr = True
    world.release(request)
    alarms = [n.event for n in world.heard.news if n.level == "alarm" and n.grant == request.id]
    assert alarms == ["request", "approve", "release"]
    assert all("BREAK GLASS" in n.text for n in world.heard.news if n.level == "alarm")


def test_a_policy_without_break_glass_breaks_none() -> None:
    world = World(break_glass=None)
    with pytest.raises(RefusedError, match="break-glass is allowed"):
        world.ask(break_glass=True, seconds=60)


def test_nobody_breaks_glass_for_himself() -> None:
    world = World(
        requesters=("sam",),
        break_glass=BreakGlass(
            teams=(Team(name="on-call", needs=1, members=("sam",)),), seconds=600
        ),
    )
    request = world.ask(by="sam", break_glass=True, seconds=600)
    with pytest.raises(RefusedError, match="not the approver's own"):
        world.approve("sam", request, "on-call")


# Denials, revocations, limits


def test_one_denial_ends_a_request() -> None:
    world = World()
    request = world.ask()
    world.approve("ann", request)
    world.broker.judge(
        "ron", request.id, "deny", "research", world.signed("ron", request, "deny"), "not now"
    )
    assert world.broker.grant(request.id).ending == "denied by ron: not now"
    with pytest.raises(RefusedError, match="denied by ron"):
        world.approve("sam", request)


@pytest.mark.parametrize("who", ["alice", "oscar", "ann", "rob"])
def test_requester_operators_and_approvers_may_revoke(who: str) -> None:
    world = World()
    request = world.approved()
    world.broker.revoke(who, request.id, "enough")
    assert world.broker.grant(request.id).status is Status.ENDED


def test_an_ended_grant_is_neither_wiped_nor_revoked_again() -> None:
    world = World()
    request = world.approved()
    with pytest.raises(RefusedError, match="the grant is leased"):
        world.broker.wipe("alice", request.id)
    world.broker.revoke("oscar", request.id, "enough")
    with pytest.raises(RefusedError, match="has not ended"):
        world.broker.revoke("oscar", request.id, "enough")


def test_others_may_not_revoke() -> None:
    world = World()
    request = world.approved()
    with pytest.raises(RefusedError, match="may not revoke"):
        world.broker.revoke("mallory", request.id, "spite")


def test_one_requester_cannot_bury_the_approvers_in_requests() -> None:
    world = World(pending=2)
    world.ask()
    world.ask()
    with pytest.raises(RefusedError, match="few are pending"):
        world.ask()
    world.ask(by="rob")


def test_texts_that_would_need_escapes_are_recorded_without_them() -> None:
    world = World()
    request = world.ask(why='a "quoted"\n\x1b[31mred\\ reason')
    assert not set(request.why) & set('"\\\n\x1b')


def test_a_name_that_cannot_be_recorded_is_refused_before_anything_happens() -> None:
    world = World()
    size = world.store.tip().size
    with pytest.raises(GrantError, match="cannot be recorded"):
        world.broker.adopt(msgspec.structs.replace(world.policy, requesters=('a"b',)))
    assert world.store.tip().size == size
    world.ask()


# Entries and policies


def test_an_entry_has_one_spelling() -> None:
    world = World()
    world.ask()
    rows = world.store.read(0, 99)
    for n, row in enumerate(rows):
        assert encode(parse(row.entry, n)) == row.entry
        for other in (row.entry + b" ", b" " + row.entry, row.entry.replace(b":", b": ", 1)):
            with pytest.raises(GrantError):
                parse(other, n)
        with pytest.raises(GrantError):
            parse(row.entry, n + 1)


@given(st.data())
def test_any_change_of_a_request_changes_its_hash(data: st.DataObject) -> None:
    request = ASKED
    fields = msgspec.structs.asdict(request)
    name = data.draw(st.sampled_from([n for n in fields if n != "v"]))
    value = fields[name]
    if isinstance(value, bool):
        other: object = not value
    elif isinstance(value, int):
        other = data.draw(st.integers(1, 2**40).filter(lambda n: n != value))
    elif isinstance(value, tuple):
        other = data.draw(st.lists(st.integers(0, 9), min_size=1).map(tuple))
    else:
        other = data.draw(st.text("abcdef0123456789", min_size=1, max_size=64))
    changed = Request(**(fields | {name: other}))
    assert (changed.digest == request.digest) == (other == value)


def test_a_forged_entry_that_skips_a_state_is_refused_by_the_fold() -> None:
    world = World()
    request, _ = world.leased()
    rows = world.store.read(0, 99)
    release = parse(rows[-1].entry, len(rows) - 1)
    state = replayed(world)
    twice = msgspec.structs.replace(release, n=state.tip.size)
    raw = encode(twice)
    row = Row(raw, next_head(state.tip.head, raw))
    with pytest.raises(GrantError, match="state forbids"):
        folded(state, row)
    assert state.grants[request.id].status is Status.LEASED


POLICY = """
rp_id = "vault.example"
origins = ["https://vault.example"]
requesters = ["alice"]
operators = ["oscar"]
[[people]]
name = "ann"
[[people.credentials]]
id = "AAAA"
key = "AAAA"
[[teams]]
name = "security"
needs = 1
members = ["ann"]
[[hosts]]
name = "gpu1"
kind = "tpm"
device = "tpm-ek:00"
reference = "0000000000000000000000000000000000000000000000000000000000000000"
[[windows]]
days = ["mon"]
start = 480
end = 1080
"""


def test_a_policy_is_read_from_toml_and_its_hash_is_of_its_meaning() -> None:
    policy = read_policy(POLICY.encode())
    assert policy == read_policy(("# a comment\n" + POLICY).encode())
    assert policy.digest == read_policy(("# a comment\n" + POLICY).encode()).digest
    assert policy.digest != read_policy(POLICY.replace("480", "481").encode()).digest


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("needs = 1", "needs = 2"),
        ("needs = 1", "needs = 0"),
        ('members = ["ann"]', 'members = ["ann", "ann"]'),
        ('members = ["ann"]', 'members = ["nobody"]'),
        ("end = 1080", "end = 480"),
        ('"mon"', '"monday"'),
        ("rp_id", "rpid"),
        ('id = "AAAA"', 'id = ""'),
        ("0000", "xyz"),
        ("[[teams]]", "[[people]]"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(old: str, new: str) -> None:
    with pytest.raises(ConfigError):
        read_policy(POLICY.replace(old, new, 1).encode())


def test_manifests_are_set_by_operators_only() -> None:
    world = World()
    world.broker.set_current("oscar", MODEL, MANIFEST, SHARDS)
    with pytest.raises(RefusedError, match="no operator"):
        world.broker.set_current("alice", MODEL, MANIFEST, SHARDS)


def test_whoever_is_no_requester_may_not_ask() -> None:
    with pytest.raises(RefusedError, match="the requester may ask"):
        World().ask(by="ann")


def test_nobody_but_its_requester_challenges_renews_or_wipes() -> None:
    world = World()
    request, _ = world.leased()
    with pytest.raises(RefusedError, match="somebody else's"):
        world.broker.challenge("mallory", request.id)
    with pytest.raises(RefusedError, match="somebody else's"):
        world.broker.renew("mallory", request.id, world.evidence(request, "renew"))
    with pytest.raises(RefusedError, match="somebody else's"):
        world.broker.wipe("mallory", request.id)


def test_an_id_is_taken_once() -> None:
    world = World()
    request = world.ask()
    world.broker._draw = lambda _: bytes.fromhex(request.id)
    with pytest.raises(RefusedError, match="that id is taken"):
        world.ask()


@pytest.mark.parametrize(
    "command",
    [
        commands.Judge("ann", "ab" * 16, "approve", "security", WORLD.signed("ann", ASKED)),
        commands.Challenge("alice", "ab" * 16, "00" * 32),
        commands.Renew("alice", "ab" * 16, _unread(b"", NOW, CannotVerify("nothing"))),
        commands.Wipe("alice", "ab" * 16),
        commands.Revoke("oscar", "ab" * 16, "x"),
    ],
)
def test_what_names_no_grant_is_refused(command: commands.Command) -> None:
    state = WORLD.broker.state()
    _, effects = decide(state, command, time=state.time, wall=0)
    assert isinstance(effects[-1], Refuse)
    assert (effects[-1].check, effects[-1].rule) == (1, "the grant exists")


def test_an_unknown_grant_is_refused_under_no_name() -> None:
    world = World()
    with pytest.raises(RefusedError, match="there is no such grant"):
        world.broker.release("alice", "ab" * 16, b"{}", bytes(32))
    assert world.published()[-1]["does"]["grant"] == NO_GRANT  # type: ignore[index]


def test_the_quiet_notifier_needs_nobody() -> None:
    world = World()
    for news in world.heard.news:
        Quiet().tell(news)
