"""Auditing access logs: how fast, in how much memory, what is found how soon, and what is not."""

from __future__ import annotations

import time
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import msgspec

from tidegate.audit.conclude import Report, Source, conclude
from tidegate.audit.event import Action, Event, Place
from tidegate.audit.examine import Examiner
from tidegate.audit.files import feed, seldom_collecting
from tidegate.audit.findings import Finding, Kind
from tidegate.audit.grants import Journal, read_journal
from tidegate.audit.models import Guarded, guarded, table_of
from tidegate.audit.readers import READERS
from tidegate.bench import peak_memory
from tidegate.bench import vault_audit_render as render
from tidegate.bench import vault_audit_traffic as traffic
from tidegate.bench.figures import Figure, at_least, at_most, report
from tidegate.bench.vault_audit_real import real
from tidegate.errors import TidegateError
from tidegate.models.cache import Progress

DAYS: Final = 90
SPEED_EVENTS: Final = 60_000
REPEATS: Final = 5
MEMORY_EVENTS: Final = 10_000_000
_PEOPLE: Final = 2_000
_TEMPLATE: Final = 20_000

_Render = Callable[[Event], bytes]

FORMATS: Final[Mapping[str, _Render]] = {
    "cloudtrail": render.cloudtrail,
    "s3-access": render.s3_access,
    "events": render.own_events,
}


def known() -> Guarded:
    """The made-up store's models file."""
    return guarded(table_of(tomllib.loads(render.MODELS)))


def granted(days: int) -> Journal:
    """The made-up store's journal."""
    lines = enumerate(render.journal(days), 1)
    return read_journal((Place(0, number), line) for number, line in lines)


def measure(progress: Progress) -> dict[str, Figure]:
    """Everything but the memory of ten million events, and that too."""
    return {**_speed(progress), **_memory(progress), **_found(progress), **real(progress)}


def _speed(progress: Progress) -> dict[str, Figure]:
    """From a record's bytes to what is kept of it, in one process; each is about a model."""
    made = traffic.days(DAYS)
    events = [one.event for one, _ in zip(made, range(SPEED_EVENTS), strict=False)]
    journal, figures, rates = granted(DAYS), {}, []
    for stage, (kind, write) in enumerate(FORMATS.items()):
        lines = [write(event) for event in events]
        taken = []
        for repeat in range(REPEATS):
            taken.append(_timed(kind, lines, journal))
            progress("audit: speed", stage * REPEATS + repeat + 1, REPEATS * len(FORMATS))
        # The best of the repeats: whatever else runs on the machine only makes it slower.
        rates.append(len(lines) / min(taken))
        size = sum(map(len, lines)) / len(lines)
        figures[f"audit_events_per_s.{kind}"] = report(
            rates[-1], unit="events/s", n=len(lines),
            how=f"{kind}, {size:.0f} bytes a record, each a read of a guarded shard; processor "
            f"time, best of {REPEATS}",
        )  # fmt: skip
    return {
        "audit_events_per_s": at_least(
            min(rates), 50_000, unit="events/s", n=SPEED_EVENTS,
            how="the slowest of the formats on one core: records cut, decoded, examined",
        ),
        **figures,
    }  # fmt: skip


def _timed(kind: str, lines: Sequence[bytes], journal: Journal) -> float:
    examiner = Examiner(known(), journal)
    reader = READERS[kind]()
    with seldom_collecting():
        begin = time.process_time()
        feed(examiner, reader, 0, reader.records(lines), None, None)
        return time.process_time() - begin


def _memory(progress: Progress) -> dict[str, Figure]:
    """Ten million reads by 2,000 principals, of ranges that move on every day, through a pipe."""
    with TemporaryDirectory() as folder:
        models = Path(folder) / "models.toml"
        models.write_text(render.MODELS)
        peaks = []
        for count in (MEMORY_EVENTS // 10, MEMORY_EVENTS):
            ran = peak_memory.run_fed(
                _counted(_many(count), count, progress),
                "audit", "logs", "-", "--kind", "events", "--models", str(models), "--json",
            )  # fmt: skip
            if ran.peak is None or ran.status == 2:
                raise TidegateError(f"the audit of {count:,} events could not run: {ran.errors}")
            if msgspec.json.decode(ran.output)["events"] != count:
                raise TidegateError("the audit did not count all events")
            peaks.append(ran.peak)
    growth = (peaks[1] - peaks[0]) / 2**20
    return {
        "audit_memory_mib": at_most(
            peaks[1] / 2**20, 1024, unit="MiB", n=MEMORY_EVENTS,
            how=f"peak of `tidegate audit` on ten million reads by {_PEOPLE:,} principals, whose "
            "ranges move on every day",
        ),
        "audit_memory_growth_mib": report(
            growth, unit="MiB", n=MEMORY_EVENTS, how="its peak beside that on one million reads",
        ),
    }  # fmt: skip


def _counted(lines: Iterable[bytes], count: int, progress: Progress) -> Iterator[bytes]:
    for number, line in enumerate(lines):
        if number % 50_000 == 0:
            progress(f"audit: memory, {count:,} events", number, count)
        yield line
    progress(f"audit: memory, {count:,} events", count, count)


def _many(count: int) -> Iterator[bytes]:
    """One made-up day over and over, with another date, other requests and other ranges."""
    template = list(_day())
    number = day = 0
    while True:
        stamp = b"%013d" % (1000 * (traffic.START + day * traffic.DAY))
        # A prime number of steps, so that the ranges of a year fall beside each other.
        offset = b"%010d" % (1_000_000_000 + day * 7_919 * 65_536 % 4_000_000_000)
        request = b"R%07d" % day
        for line in template:
            yield (
                line.replace(b"1111111111111", stamp)
                .replace(b"2222222222", offset)
                .replace(b"RRRRRRRR", request)
            )
            number += 1
            if number == count:
                return
        day += 1


def _day() -> Iterator[bytes]:
    for i in range(_TEMPLATE):
        event = Event(
            time=1111111111.111,
            stream="proxy",
            action=Action.READ,
            operation="s3:GetObject",
            ok=True,
            principal=f"user-{i % _PEOPLE}",
            target=traffic.shard_uri(i % traffic.SHARDS),
            address=f"10.7.{i % 200}.{i % 250}",
            offset=2222222222,
            length=65_536 + i,
            request=f"RRRRRRRR{i:06d}",
        )
        yield render.own_events(event)


def _found(progress: Progress) -> dict[str, Figure]:
    """Time from a thief's first act until what is logged suffices, and findings about others."""
    progress("audit: thieves", 0, 3)
    made = sorted(
        [*traffic.days(DAYS), *(traffic.Labelled(event) for event in render.decrypts(DAYS))],
        key=lambda one: one.event.time,
    )
    events = [one.event for one in made]
    whole = settled(events, granted(DAYS))
    progress("audit: thieves", 1, 3)
    alone = settled(events, None)
    progress("audit: thieves", 2, 3)
    # What a store such as S3 logs of the same: the ranges are gone.
    blurred = settled([_blurred(event) for event in events], None)
    progress("audit: thieves", 3, 3)
    begins = {
        thief.name: min(one.event.time for one in made if one.thief == thief.name)
        for thief in traffic.THIEVES
    }
    figures: dict[str, Figure] = {}
    missed = []
    for thief in traffic.THIEVES:
        found = _first(whole, thief, begins[thief.name])
        if found is None:
            missed.append(thief)
            continue
        name = thief.name.replace(" ", "_").replace(",", "").lower()
        figures[f"audit_days_to_find.{name}"] = report(
            (found.time - begins[thief.name]) / traffic.DAY, unit="days", n=1,
            how=f"{thief.name}: by {found.kind}, with the journal of grants",
        )  # fmt: skip
        for label, other in (("coverage_alone", alone), ("sizes_alone", blurred)):
            first = _first(other, thief, begins[thief.name], _BY_COVERAGE)
            if first is not None:
                figures[f"audit_days_to_find.{name}.{label}"] = report(
                    (first.time - begins[thief.name]) / traffic.DAY, unit="days", n=1,
                    how=f"{thief.name}: by {first.kind}, without a journal"
                    + (" and without ranges, as S3 logs them" if other is blurred else ""),
                )  # fmt: skip
    hidden = [thief for thief in missed if not thief.seen]
    figures["audit_thieves_missed"] = at_most(
        len(missed) - len(hidden), 0, unit="thieves", n=len(traffic.THIEVES) - len(hidden),
        how="made-up thieves that no finding names; "
        + "; ".join(f"besides, as stated, {thief.name}: {thief.why}" for thief in hidden),
    )  # fmt: skip
    for label, made_of in (("", whole), (".without_grants", alone)):
        wrong = _about_others(made_of)
        figures[f"audit_false_positives_a_day{label}"] = report(
            len(wrong) / DAYS, unit="findings/day", n=len(wrong),
            how="findings graver than notes about the innocent in the made-up set: "
            + ", ".join(f"{finding.kind} of {_short(finding.who)}" for finding in wrong),
        )  # fmt: skip
    return figures


_BY_COVERAGE: Final = frozenset({Kind.COVERAGE, Kind.DRIP, Kind.CLUSTER, Kind.COMPLETE})


def settled(events: Iterable[Event], journal: Journal | None) -> Report:
    """What an audit of these events comes to."""
    examiner = Examiner(known(), journal)
    for number, event in enumerate(events, 1):
        examiner.take(event, Place(0, number))
    return conclude(examiner, [Source("made up", "events", "record")])


def _blurred(event: Event) -> Event:
    whole = event.offset == 0 and event.length >= traffic.SHARD
    return event if whole else msgspec.structs.replace(event, offset=-1)


def _first(
    made: Report, thief: traffic.Thief, begin: float, kinds: frozenset[Kind] | None = None
) -> Finding | None:
    shows = kinds or (
        frozenset({Kind.NEW_SOURCE}) if thief.name == "stolen credentials" else frozenset(Kind)
    )
    if thief.name == "drip under a lease":
        shows = _BY_COVERAGE
    found = [
        finding
        for finding in made.findings
        if finding.kind in shows
        and finding.gravity != "note"
        and finding.time >= begin
        and set(finding.who.split(", ")) & set(thief.names)
    ]
    return min(found, key=lambda finding: finding.time, default=None)


def _about_others(made: Report) -> list[Finding]:
    guilty = {name for thief in traffic.THIEVES if thief.seen for name in thief.names}
    guilty |= {"paul", "petra"}
    # The stolen role is an honest one's: only what its thief caused is not held against us.
    honest = {"serve"}
    return [
        finding
        for finding in made.findings
        if finding.gravity != "note"
        and not (set(finding.who.split(", ")) & (guilty - honest))
        and not (finding.who in honest and finding.kind is Kind.NEW_SOURCE)
    ]


def _short(who: str) -> str:
    return who.rpartition("/")[2] or "the logs"
