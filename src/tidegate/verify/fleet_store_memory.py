"""Objects in memory: for tests and simulations, with hooks that break calls on purpose."""

from __future__ import annotations

import threading
from collections.abc import Callable
from enum import Enum

from tidegate.verify.fleet_store import MAX_OBJECT, NoSuchObjectError, StoreError


class Fault(Enum):
    """The ways in which a call can fail, as its caller sees them: not at all apart."""

    NOT_DONE = "failed and not done"
    DONE = "failed but done"
    TORN = "failed with half the bytes written"
    FOR_GOOD = "refused"


class MemoryObjects:
    """An `Objects` that lives as long as it does.

    `fault` is asked before each call, with its name and the object's, whether and how to fail.
    """

    def __init__(self, fault: Callable[[str, str], Fault | None] = lambda _call, _name: None):
        self.fault = fault
        self.data: dict[str, bytes] = {}
        self.created: list[str] = []
        self._lock = threading.Lock()

    def names(self, prefix: str) -> dict[str, int]:
        with self._lock:
            self._told("names", prefix)
            return {name: len(self.data[name]) for name in self.data if name.startswith(prefix)}

    def read(self, name: str) -> bytes:
        with self._lock:
            self._told("read", name)
            if name not in self.data:
                raise NoSuchObjectError(f"There is no object {name}.", name=name)
            if len(self.data[name]) > MAX_OBJECT:
                raise StoreError(f"The object {name} is larger than any of ours.", name=name)
            return self.data[name]

    def create(self, name: str, data: bytes) -> bool:
        with self._lock:
            fault = self._asked("create", name)
            made = name not in self.data
            if made and fault in (None, Fault.DONE, Fault.TORN):
                self.data[name] = data[: len(data) // 2] if fault is Fault.TORN else data
                self.created.append(name)
            self._raised(fault, name)
            return made

    def replace(self, name: str, data: bytes) -> None:
        with self._lock:
            fault = self._asked("replace", name)
            if fault in (None, Fault.DONE, Fault.TORN):
                self.data[name] = data[: len(data) // 2] if fault is Fault.TORN else data
            self._raised(fault, name)

    def delete(self, name: str) -> None:
        with self._lock:
            fault = self._asked("delete", name)
            if fault in (None, Fault.DONE):
                self.data.pop(name, None)
            self._raised(fault, name)

    def _told(self, call: str, name: str) -> None:
        self._raised(self._asked(call, name), name)

    def _asked(self, call: str, name: str) -> Fault | None:
        return self.fault(call, name)

    def _raised(self, fault: Fault | None, name: str) -> None:
        if fault is not None:
            again = fault is not Fault.FOR_GOOD
            raise StoreError(f"The store {fault.value}.", again=again, name=name)
