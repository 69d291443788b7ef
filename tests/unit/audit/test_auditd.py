"""auditd's lines are gathered into events, and reads followed to their files."""

from __future__ import annotations

import pytest

from tidegate.audit.event import UNKNOWN, Action, Broken, Event
from tidegate.audit.read_auditd import Auditd

OPEN = (
    "type=SYSCALL msg=audit(1767323045.120:{n}): arch=c000003e syscall=257 success=yes exit=7 "
    'a0=ffffff9c a1=1 a2=0 a3=0 items=1 ppid=1 pid=42 auid=1000 uid=0 ses=3 comm="cp" '
    'exe="/usr/bin/cp" key="weights"\x1dAUID="mara" UID="root"\n'
    'type=CWD msg=audit(1767323045.120:{n}): cwd="/models"\n'
    'type=PATH msg=audit(1767323045.120:{n}): item=0 name="{name}" inode=1 nametype=NORMAL\n'
    "type=EOE msg=audit(1767323045.120:{n}): \n"
)
CALL = (
    "type=SYSCALL msg=audit(1767323046.120:{n}): arch=c000003e syscall={call} success=yes "
    "exit={exit} a0={a0} a1=0 a2=ffff a3={a3} items=0 pid=42 auid=1000 uid=0 ses=3\n"
)


def _events(text: str) -> list[Event]:
    reader = Auditd()
    made = []
    for _, raw in reader.records(text.encode().splitlines(keepends=True)):
        assert isinstance(raw, bytes)
        made.append(reader.parse(raw))
    return made


def test_an_open_names_file_login_user_and_program() -> None:
    (event,) = _events(OPEN.format(n=1, name="tide/0"))
    assert (event.action, event.target) == (Action.OPEN, "file:///models/tide/0")
    assert (event.principal, event.agent, event.length) == ("user:mara", "/usr/bin/cp", UNKNOWN)


def test_pread_has_its_range_and_read_follows_from_what_was_read_before() -> None:
    text = OPEN.format(n=1, name="/models/tide/0")
    text += CALL.format(n=2, call=17, exit=4096, a0=7, a3="10000")
    text += CALL.format(n=3, call=0, exit=100, a0=7, a3=0)
    text += CALL.format(n=4, call=0, exit=50, a0=7, a3=0)
    found = [(event.offset, event.length, event.target) for event in _events(text)[1:]]
    place = "file:///models/tide/0"
    assert found == [(0x10000, 4096, place), (0, 100, place), (100, 50, place)]


def test_reads_of_unknown_descriptors_have_no_file() -> None:
    (event,) = _events(CALL.format(n=1, call=0, exit=10, a0=9, a3=0))
    assert (event.target, event.offset) == ("", UNKNOWN)


def test_lines_of_several_processors_are_told_apart() -> None:
    one, two = (OPEN.format(n=n, name=f"/f/{n}").split("\n")[:-1] for n in (1, 2))
    mixed = [line for pair in zip(one, two, strict=True) for line in pair]
    assert [event.target for event in _events("\n".join(mixed))] == ["file:///f/1", "file:///f/2"]


def test_names_in_hex_are_read() -> None:
    (event,) = _events(OPEN.format(n=1, name="x").replace('name="x"', "name=2F6D20310A"))
    assert event.target == "file:///m 1\n"


@pytest.mark.parametrize(
    "line",
    [
        "type=CONFIG_CHANGE msg=audit(1.5:1): op=set audit_enabled=0 old=1 auid=1000 res=1",
        'type=CONFIG_CHANGE msg=audit(1.5:1): auid=1000 op=remove_rule key="weights" list=4 res=1',
        "type=DAEMON_END msg=audit(1.5:1): op=terminate auid=0 pid=1 res=success",
    ],
)
def test_auditing_switched_off_is_seen(line: str) -> None:
    assert _events(line)[0].action is Action.LOGGING_OFF


def test_an_unknown_machine_is_refused_and_a_line_without_a_stamp_is_no_event() -> None:
    reader = Auditd()
    with pytest.raises(ValueError, match="without a table"):
        reader.parse(b"type=SYSCALL msg=audit(1.5:1): arch=28 syscall=1 success=yes exit=1")
    with pytest.raises(ValueError, match="not a line of auditd"):
        reader.parse(b"Jan 1 kernel: hello")
    kept = [raw for _, raw in reader.records([b"Jan 1 kernel: hello\n"])]
    assert kept == [b"Jan 1 kernel: hello\n"]
    assert not isinstance(kept[0], Broken)
