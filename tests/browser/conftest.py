"""A real browser and a real server for the tests of what only a browser can show.

`serve(script, env=None) -> url` starts `streamlit run script` on a free port and stops it at the end of the session;
`open_page(url, **options) -> Page` opens a page in Chromium (options: playwright's `new_context`).
Where no Chromium is found these tests skip; with the environment variable CI set, that is a failure.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

ROOT = Path(__file__).parents[2]
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
START_SECONDS = 60


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test that waited on a browser in vain is run once more, and the report's last line counts it as "rerun"."""
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.flaky(reruns=1))


def find_chromium() -> str | None:
    """`CHROMIUM` if set, else the first of the usual names on the path."""
    named = os.environ.get("CHROMIUM")
    return named or next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def absent(reason: str) -> None:
    """Skip, or fail where the continuous build runs: there a missing browser would hide what it should show."""
    if os.environ.get("CI"):
        pytest.fail(f"{reason} (and CI is set, where browser tests must run)")
    pytest.skip(reason)


@pytest.fixture(scope="session")
def browser(kept_processes: set[int]) -> Iterator[Any]:
    """A headless Chromium, driven by Playwright."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        absent("Playwright is not installed: pip install -r requirements-dev.txt")
    path = find_chromium()
    if path is None:
        absent("no Chromium found: install Debian's `chromium`, or set CHROMIUM to its path")
    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=path, args=list(FLAGS))
        kept_processes.update(child.pid for child in psutil.Process().children())  # Playwright's, and by it the browser
        yield chromium
        chromium.close()


@pytest.fixture
def open_page(browser: Any) -> Iterator[Callable[..., Any]]:
    """open_page(url, **context_options) -> a Page that is closed with the test."""
    contexts = []

    def open_page(url: str | None = None, **options: Any) -> Any:
        contexts.append(browser.new_context(**({"viewport": {"width": 1280, "height": 900}} | options)))
        page = contexts[-1].new_page()
        if url is not None:
            page.goto(url)
        return page

    yield open_page
    for context in contexts:
        context.close()


@pytest.fixture(scope="session")
def serve(tmp_path_factory: pytest.TempPathFactory, kept_processes: set[int]) -> Iterator[Callable[..., str]]:
    """serve(script, env=None) -> URL of a running Streamlit server; one per script and environment."""
    running: dict[tuple, tuple[subprocess.Popen, str]] = {}

    def serve(script: str | Path, env: dict[str, str] | None = None) -> str:
        known = (str(Path(script).resolve()), tuple(sorted((env or {}).items())))
        if known not in running:
            log = tmp_path_factory.mktemp("streamlit") / "log.txt"
            running[known] = _start(known[0], env or {}, log)
            kept_processes.add(running[known][0].pid)
        return running[known][1]

    yield serve
    for process, _ in running.values():
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()


def _start(script: str, env: dict[str, str], log: Path) -> tuple[subprocess.Popen, str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        *(sys.executable, "-m", "streamlit", "run", script),
        *("--server.headless=true", "--server.address=127.0.0.1", f"--server.port={port}"),
        *("--browser.gatherUsageStats=false", "--server.fileWatcherType=none"),
    ]
    with log.open("wb") as sink:
        process = subprocess.Popen(
            command, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"} | env, stdout=sink, stderr=subprocess.STDOUT
        )
    url = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/_stcore/health", timeout=2):
                return process, url
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.1)
    process.kill()
    said = log.read_text(errors="replace")
    raise RuntimeError(f"streamlit run {script} did not start within {START_SECONDS} s:\n{said}")
