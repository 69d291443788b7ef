"""What a hardware key wants of the person in front of it."""

from __future__ import annotations

from getpass import getpass

from fido2.client import UserInteraction
from rich.console import Console


class Touch(UserInteraction):
    """Asks for touch and PIN on the terminal."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def prompt_up(self) -> None:
        self._console.print("touch your hardware key …")

    def request_pin(self, permissions: object, rp_id: str | None) -> str:
        return getpass(f"PIN of your hardware key (for {rp_id}): ")

    def request_uv(self, permissions: object, rp_id: str | None) -> bool:
        self._console.print("put your finger on your hardware key …")
        return True
