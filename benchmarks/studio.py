"""The studio on a CPU: how long a person waits for music, and whether the server grows with what it is asked.

    python -m benchmarks.studio --data DIR [--rounds 5] [--requests 200] [--at-once 20]

With the champion of a data folder and a server of its own. A person clicks on Compose in headless Chromium; then a
program asks for music, first one request after the other, then many at once. Memory is that of the server and all its
children. It needs the extras `studio` and `dev`, and Chromium.
"""

import argparse
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import psutil
from gradio_client import Client
from playwright.sync_api import Browser, sync_playwright

from benchmarks.harness import ROUNDS, machine

BARS = 2
WARM = 10
"""Requests after which the server has loaded what it needs, and is measured for the first time."""
START_SECONDS = 120
# Without these, Chromium looks for the outside world at every start.
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
ARGUMENTS += ["--disable-background-networking", "--disable-component-update"]
WATCH = """() => {
  const found = (window.found = {});
  const since = performance.now();
  const seen = (name, is) => { if (!(name in found) && is) found[name] = (performance.now() - since) / 1000; };
  const look = () => {
    const roll = document.querySelector("#compose-1");
    seen("bar", / in [1-9]/.test(roll?.querySelector(".roll-scroller")?.getAttribute("aria-label") ?? ""));
    seen("sound", roll?.querySelector("audio")?.getAttribute("src")?.startsWith("data:audio"));
    if (!("sound" in found)) requestAnimationFrame(look);
  };
  document.querySelector("#compose-write").click();
  look();
}"""
"""Clicks, and notes seconds until the first candidate's roll tells of a bar, and until it can be played."""


class Server(NamedTuple):
    """A studio that runs, and the folder of its temporary files."""

    process: psutil.Process
    address: str
    folder: Path

    @property
    def mebibytes(self) -> float:
        """Resident memory, with that of its children."""
        return sum(_resident(one) for one in self._all) / 2**20

    @property
    def children(self) -> int:
        """Processes beside the server."""
        return len(self._all) - 1

    @property
    def files(self) -> tuple[int, float]:
        """How many files it has, and their MiB."""
        sizes = [path.stat().st_size for path in self.folder.rglob("*") if path.is_file()]
        return len(sizes), sum(sizes) / 2**20

    @property
    def _all(self) -> list[psutil.Process]:
        return [self.process, *self.process.children(recursive=True)]


def _resident(process: psutil.Process) -> int:
    try:
        return process.memory_info().rss
    except psutil.NoSuchProcess:
        return 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a data folder with a trained gpt")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="clicks on Compose; 0 for no browser")
    parser.add_argument("--requests", type=int, default=200, help="requests one after the other")
    parser.add_argument("--at-once", type=int, default=20, help="requests at once, after those")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        with server(chosen.data, Path(folder)) as running:
            rows = [*waits(running, chosen.rounds), *load(running, chosen.requests, chosen.at_once)]
        left = [path for path in Path(folder).rglob("*") if path.is_file()]
        rows.append(("files left when it has ended", f"{len(left)}"))
    print("\n".join(["| of the studio | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)]))
    print(f"\n{machine()}")


@contextmanager
def server(data: Path, folder: Path) -> Iterator[Server]:
    """A studio of a data folder, in a process of its own, with its temporary files in a folder."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"http://127.0.0.1:{port}/"
    command = [sys.executable, "-m", "music_assets", "studio", "--port", str(port), "--data", str(data)]
    with subprocess.Popen(command, env=os.environ | {"TMPDIR": str(folder)}, stdout=subprocess.DEVNULL) as process:
        try:
            _wait_for(process, address)
            yield Server(psutil.Process(process.pid), address, folder)
        finally:
            process.send_signal(signal.SIGTERM)


def _wait_for(process: subprocess.Popen[bytes], address: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        with suppress(urllib.error.URLError, OSError), urllib.request.urlopen(address, timeout=5):
            return
        time.sleep(0.3)
    raise SystemExit("The studio did not start.")


def waits(running: Server, rounds: int) -> Iterator[tuple[str, str]]:
    """Seconds from a click to the first bar on the roll, and to sound, after a click that is not measured."""
    if not rounds:
        return
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        raise SystemExit("Chromium is missing: install it, or say --rounds 0.")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        found = [_click(browser, running.address) for _ in range(rounds + 1)][1:]
        browser.close()
    for name in ("bar", "sound"):
        times = [one[name] for one in found]
        said = f"{statistics.median(times):.2f} s ({min(times):.2f} to {max(times):.2f}, {rounds} rounds)"
        yield {"bar": "click to the first bar", "sound": "click to sound"}[name], said


def _click(browser: Browser, address: str) -> dict[str, float]:
    """On a page that nothing was written on."""
    page = browser.new_page()
    page.set_default_timeout(START_SECONDS * 1000)
    page.goto(address)
    page.wait_for_selector("#compose-write")
    page.wait_for_timeout(1000)
    page.evaluate(WATCH)
    page.wait_for_function("'sound' in window.found")
    found = page.evaluate("window.found")
    page.close()
    return found


def load(running: Server, requests: int, at_once: int) -> Iterator[tuple[str, str]]:
    """What many requests do to the server."""
    times, lost = [], 0
    client = Client(running.address, verbose=False)
    first = first_files = 0.0
    for number in range(requests):
        began = time.monotonic()
        lost += not _asked(client, number)
        times.append(time.monotonic() - began)
        if number + 1 == min(WARM, requests):
            first, first_files = running.mebibytes, running.files[0]
    then = running.mebibytes
    if times:
        yield f"a request of {BARS} bars, {requests} in a row", f"{statistics.median(times):.2f} s"
    began = time.monotonic()
    with ThreadPoolExecutor(max(at_once, 1)) as threads:
        lost += sum(not good for good in threads.map(lambda number: _alone(running, number), range(at_once)))
    yield f"{at_once} at once", f"{time.monotonic() - began:.1f} s"
    client.close()
    time.sleep(5)
    last, (files, mebibytes) = running.mebibytes, running.files
    yield "requests lost", f"{lost} of {requests + at_once}"
    yield f"memory after {min(WARM, requests)} requests", f"{first:.0f} MiB"
    yield f"memory after {requests}", f"{then:.0f} MiB, {_ratio(then, first)}"
    yield f"memory after all, {at_once} of them at once", f"{last:.0f} MiB, {_ratio(last, first)}"
    yield "child processes then", f"{running.children}"
    yield "temporary files then", f"{files} with {mebibytes:.2f} MiB, after {WARM} requests {first_files:.0f}"


def _ratio(value: float, first: float) -> str:
    return f"{value / first:.2f} times" if first else "–"


def _asked(client: Client, seed: int) -> bool:
    """Whether music came back."""
    try:
        path = client.predict({"bars": BARS, "seed": seed}, api_name="/compose")
    except Exception as error:  # noqa: BLE001, any of them is a request that is lost
        print(re.sub(r"\s+", " ", f"lost: {error}"), file=sys.stderr)
        return False
    found = Path(path).read_bytes()[:4] == b"MThd"
    shutil.rmtree(Path(path).parent)
    return found


def _alone(running: Server, seed: int) -> bool:
    """The same, of a program of its own."""
    client = Client(running.address, verbose=False)
    try:
        return _asked(client, seed)
    finally:
        client.close()


if __name__ == "__main__":
    main()
