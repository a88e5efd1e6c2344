"""The fixture that fails a test which leaves a process: planted leaks turn it red, whatever has become of their parents."""

import re
import subprocess
import sys
from pathlib import Path

import psutil

PLANTED = """
import subprocess, sys
from tests import leaks

leaks.LEAVE_S = 0.2
SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]

def test_clean():
    subprocess.run([sys.executable, "-c", ""], check=True)

def test_child():
    subprocess.Popen(SLEEP)

def test_orphan():
    code = f"import subprocess; subprocess.Popen({SLEEP!r}, start_new_session=True)"
    subprocess.run([sys.executable, "-c", code], check=True)

def test_kept(kept_processes):
    kept_processes.add(subprocess.Popen(SLEEP).pid)
"""


def test_a_test_that_leaves_a_process_fails_and_the_process_is_ended(tmp_path):
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "test_planted.py").write_text(PLANTED)
    options = ["-q", "-p", "tests.leaks", "-p", "no:xdist", "-p", "no:cacheprovider", "-c", tmp_path / "pytest.ini"]
    words = [sys.executable, "-m", "pytest", *options, tmp_path / "test_planted.py"]
    done = subprocess.run(words, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "4 passed, 3 errors" in done.stdout, done.stdout
    red = re.findall(r"ERROR at teardown of (\w+) .*\nleft behind: (\d+): .*sleep", done.stdout)
    assert [name for name, _ in red] == ["test_child", "test_orphan", "test_kept"]  # the last one: as the session ends
    assert not [pid for _, pid in red if lives(int(pid))]


def lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE  # that waits for init to take note
    except psutil.NoSuchProcess:
        return False
