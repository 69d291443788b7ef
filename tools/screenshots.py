"""Pictures of the console for the documentation, taken while `tidegate up` catches its thief.

Run from the project's root: `python tools/screenshots.py`. Takes some two minutes.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

OUT = Path("docs/howto")
FOLDER = Path("out/screenshots")
PORT = 8741
PATIENCE_S = 300.0


def main() -> None:
    command = [sys.executable, "-m", "tidegate", "up", "--port", str(PORT), "--attack-after", "30"]
    up = subprocess.Popen([*command, "--folder", str(FOLDER)], stdout=subprocess.DEVNULL)
    try:
        _wait_for(FOLDER / "console.ready", up)
        passwords = json.loads((FOLDER / "passwords.json").read_bytes())
        with sync_playwright() as started:
            chromium = started.chromium.launch(
                executable_path=shutil.which("chromium"), args=["--no-sandbox"]
            )
            page = chromium.new_page(viewport={"width": 1200, "height": 1000})
            page.set_default_timeout(1000 * PATIENCE_S)
            _log_in(page, "olga", passwords["olga"])
            page.wait_for_selector("#headline[data-mood=bad] >> text=verification failed")
            page.wait_for_selector("#events >> text=token")
            page.screenshot(path=OUT / "console-caught.png")
            page.click("#events >> text=token")
            page.click("dialog >> text=in the record")
            page.wait_for_selector("dialog >> text=as recorded")
            page.screenshot(path=OUT / "console-alert.png")
            page.keyboard.press("Escape")
            page.emulate_media(color_scheme="dark")
            page.set_viewport_size({"width": 390, "height": 844})
            page.screenshot(path=OUT / "console-phone.png")
            chromium.close()
    finally:
        up.send_signal(signal.SIGINT)
        up.wait(60)


def _wait_for(path: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not (path.exists() and path.read_text()):
        if process.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(f"tidegate up did not start; see {FOLDER}")
        time.sleep(0.2)


def _log_in(page: Page, name: str, password: str) -> None:
    page.goto(f"http://localhost:{PORT}/")
    page.fill("[name=name]", name)
    page.fill("[name=password]", password)
    page.click("button[type=submit]")
    page.wait_for_selector("#fresh.good")


if __name__ == "__main__":
    main()
