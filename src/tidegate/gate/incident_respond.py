"""From an alert to what is done about it: decide, stop, write down, in that order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from tidegate.clock import Clock
from tidegate.errors import GateError, TidegateError
from tidegate.gate.incident import (
    Action,
    Boundary,
    Incident,
    Incidents,
    Response,
    decide,
    identity,
    remembered,
    spread,
)
from tidegate.gate.incident_bundle import Position, files_of, write
from tidegate.gate.incident_room import NoRoomError, Room
from tidegate.gate.incident_stop import Stop
from tidegate.scan.alerts import Alert, eve, unkept
from tidegate.transparency.note import Signer
from tidegate.units import Timestamp

EVE_LOG: Final = "eve.json"
"""In the incidents' folder: every alert, one event a line, as Suricata writes them."""
PCAP_BYTES: Final = 1 << 20
MOST_BUNDLES: Final = 1000
"""Evidence of one run; senders may make up addresses, and each pair of hosts is an incident."""
_MOST_INCIDENTS: Final = 10_000


def unlogged(_: Incident) -> Position | None:
    """Where no log is kept."""
    return None


class Responder:
    """Handles alerts one after another.

    Args:
        response: what is to be done about what.
        stop: what it is done with; None only watches, and says so in each incident.
        folder: where evidence goes.
        signer: signs each bundle's manifest.
        clock: `now()` says when the alarm came and when the kernel had stopped it.
        version: the product's, for the alerts.
        log: writes an incident down, once for each step up, and says where the log stands then;
            called after stopping.
        pcap_bytes: the most that a bundle's slice of traffic takes.
        most_bundles: how many are kept; later ones are refused, and an alarm says so.
        room: how much evidence may take of the disk; what has no room is refused likewise.
    """

    def __init__(
        self,
        *,
        response: Response,
        stop: Stop | None,
        folder: Path,
        signer: Signer,
        clock: Clock,
        version: str,
        log: Callable[[Incident], Position | None] = unlogged,
        pcap_bytes: int = PCAP_BYTES,
        most_bundles: int = MOST_BUNDLES,
        room: Room | None = None,
    ) -> None:
        self._response = response
        self._stop = stop
        self._folder = folder
        self._signer = signer
        self._clock = clock
        self._version = version
        self._log = log
        self._pcap_bytes = pcap_bytes
        self._bundles_left = most_bundles
        self._room = room or Room(folder)
        self._refused = False
        self._refusal: str | None = None
        self._boundary = Boundary()
        self.incidents: Incidents = {}

    def handle(
        self, alert: Alert, first_byte: Timestamp, frames: Callable[[], Sequence[tuple[int, bytes]]]
    ) -> tuple[Incident, ...]:
        """Do what the alert calls for. `frames` is asked for only where evidence is kept: a bundle
        for each step up, none for notes and for what an incident merely repeats. Of repetitions
        that call for nothing the second, fourth, eighth and so on are noted, with their number.

        Gives the alert's incident; behind it that of the whole boundary where the alert was the
        one too many, and that of evidence which was refused for the first time in a row. What
        could not be done is in an incident's `failure`. A throttle that fails is a latch.
        """
        incidents = [self._handled(alert, first_byte, frames)]
        self._boundary, all_of_it = spread(self._boundary, self._response, incidents[0], alert)
        if all_of_it is not None:
            began = Timestamp(all_of_it.facts["since"])
            incidents.append(self._handled(all_of_it, began, frames))
        if self._refusal is not None:
            now = self._clock.now()
            incidents.append(self._handled(unkept(self._refusal, now), now, frames))
            self._refusal = None
        return tuple(incidents)

    def _handled(
        self, alert: Alert, first_byte: Timestamp, frames: Callable[[], Sequence[tuple[int, bytes]]]
    ) -> Incident:
        alarm = self._clock.now()
        before = self.incidents.get(identity(alert))
        known, incident, action = decide(
            self.incidents, self._response, alert, first_byte=first_byte, alarm=alarm
        )
        if action is not None:
            incident = self._act(incident, action)
        told = msgspec.structs.replace(
            alert,
            blocked=incident.stopped is not None,
            facts=alert.facts | {"incident": incident.id, "alerts": incident.alerts},
        )
        climbed = before is None or incident.action is not before.action
        # Of what merely goes on, ever fewer lines: an hour of TLS is not a million of them.
        if action not in (None, Action.NOTE) or incident.alerts.bit_count() == 1:
            incident = self._tried(incident, lambda: self._note(told))
        if climbed and incident.action is not Action.NOTE:
            kept = incident
            incident = self._tried(incident, lambda: self._keep(kept, frames()))
        self.incidents = remembered(known | {incident.id: incident}, _MOST_INCIDENTS)
        return incident

    def _tried(self, incident: Incident, do: Callable[[], None]) -> Incident:
        try:
            do()
        except TidegateError as error:
            if isinstance(error, NoRoomError) and not self._refused:
                self._refused, self._refusal = True, error.message
            return _failed(incident, error.message)
        return incident

    def _act(self, incident: Incident, action: Action) -> Incident:
        if action is Action.NOTE:
            return incident
        if self._stop is None:
            return _failed(incident, "this watch was started without the right to stop anything")
        if action is Action.THROTTLE:
            try:
                self._throttle(self._stop, incident)
            except GateError as error:
                incident = _failed(incident, error.message)
                incident = msgspec.structs.replace(incident, action=Action.LATCH)
                action = Action.LATCH
        if action is Action.LATCH:
            try:
                self._stop.latch(f"{incident.alert.kind.value}: {incident.alert.text}")
            except TidegateError as error:
                return _failed(incident, error.message)
        alert = msgspec.structs.replace(incident.alert, blocked=True)
        return msgspec.structs.replace(incident, stopped=self._clock.now(), alert=alert)

    def _throttle(self, stop: Stop, incident: Incident) -> None:
        ends = incident.alert.ends
        if ends is None:
            raise GateError("nobody in particular sent it, so nobody can be throttled")
        stop.throttle(ends.source, self._response.throttle_bytes_s, self._response.throttle_s)

    def _note(self, alert: Alert) -> None:
        line = msgspec.json.encode(eve(alert)) + b"\n"
        self._room.claim(len(line), line=True)
        try:
            with (self._folder / EVE_LOG).open("ab") as file:
                file.write(line)
        except OSError as error:
            raise GateError(
                f"no alert can be written to {self._folder}: {error.strerror}"
            ) from error

    def _keep(self, incident: Incident, frames: Sequence[tuple[int, bytes]]) -> None:
        position = self._log(incident)
        files = files_of(
            incident,
            frames,
            version=self._version,
            position=position,
            most_bytes=self._pcap_bytes,
            signer=self._signer,
        )
        if self._bundles_left <= 0:
            raise NoRoomError("no more evidence is kept: this run has its most bundles already")
        self._room.claim(sum(map(len, files.values())))
        self._refused = False
        self._bundles_left -= 1
        write(self._folder, incident, files)


def _failed(incident: Incident, why: str) -> Incident:
    said = f"{incident.failure}; {why}" if incident.failure else why
    return msgspec.structs.replace(incident, failure=said)
