"""The process that decodes an uploaded picture: it answers as the rules say, and nothing that happens to it happens to us."""

from __future__ import annotations

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from explorer.core import BadImage
from explorer.data import read_upload, upload
from explorer.data.decoder import Refused, decode
from tests.data.test_uploads import (
    BOMBS,
    GREY,
    MAX_BYTES,
    RGB,
    SEEDS,
    chunk,
    noise,
    one_sentence,
    png16,
    refusal,
    saved,
    smooth,
    turned,
)

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="the memory of a process is limited on Linux alone")


@pytest.fixture(autouse=True)
def nothing_remembered():
    upload._read.cache_clear()


@pytest.fixture
def instead(monkeypatch, tmp_path):
    """Puts another program in the decoder's place."""

    def put(program: str):
        path = tmp_path / "decoder.py"
        path.write_text(program, "utf-8")
        monkeypatch.setattr(upload, "DECODER", path)

    return put


@pytest.mark.parametrize("shape", [RGB, GREY], ids=["colour", "grey"])
@pytest.mark.parametrize("seed", ["png", "png 16 bit", "jpeg cmyk", "webp animated"])
def test_it_answers_as_the_rules_say(seed, shape):
    data = SEEDS[seed]
    assert upload._in_child(data, shape) == decode(data, shape)
    found = read_upload(data, "a", shape)
    assert found.pixels.shape == shape and found.preview.shape == (*found.size[::-1], 3)


@pytest.mark.parametrize("case", ["9000x9000, 1 bit", "1x20000", "14000x14000, 1 bit"])
def test_it_refuses_in_the_same_words(case):
    data, words = BOMBS[case]
    assert words in refusal(data)
    with pytest.raises(Refused) as here:
        decode(data, RGB)
    assert refusal(data) == f"cat.png {here.value}"


@pytest.mark.parametrize("seed", ["png", "jpeg progressive", "webp lossy"])
def test_files_that_are_cut_off(seed):
    data = SEEDS[seed]
    for length in (1, 20, len(data) // 2):
        assert "cat.png is" in refusal(data[:length])


def test_a_decoder_that_hangs_is_ended(instead, monkeypatch):
    instead("import time; time.sleep(600)")
    monkeypatch.setattr(upload, "PATIENCE", 0.3)
    began = time.monotonic()
    assert "took longer than 0.3 s to decode" in refusal(SEEDS["png"])
    assert time.monotonic() - began < 60


@pytest.mark.parametrize(
    "program",
    [
        "import os; os.kill(os.getpid(), 9)",
        "raise SystemExit(3)",
        "",
        "print('no json')",
        "print('[]')",
        "print('{}')",
        """print('{"notes": [], "size": [8, 8], "preview": [8, 8]}')""",
        """print('{"notes": [], "size": [8, 8], "preview": ["a", "b"]}')""",
        "import sys; sys.stdout.buffer.write(bytes(100))",
    ],
)
def test_a_decoder_that_dies_or_talks_nonsense_is_one_sentence(program, instead):
    instead(program)
    assert "made its decoder fail" in refusal(SEEDS["png"])


def test_after_any_of_that_the_next_picture_is_read(instead, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(upload, "DECODER", Path("/nowhere"))
        refusal(SEEDS["png"])
    assert read_upload(SEEDS["png"], "a.png", RGB).size == (10, 12)


def test_a_computer_that_cannot_start_it_says_so(monkeypatch):
    monkeypatch.setattr(upload, "command", lambda shape, look: ["/nowhere/python"])
    assert "cannot be read just now" in refusal(SEEDS["png"])


def test_it_gets_none_of_the_apps_settings_and_loads_nothing_of_it(instead, monkeypatch):
    monkeypatch.setenv("EXPLORER_INSTRUCTOR_PASSWORD", "open sesame")
    instead(
        f"import json, os, sys; sys.path.insert(0, {str(upload.DECODER.parent)!r}); import decoder\n"
        "heavy = [name for name in ('torch', 'numpy', 'explorer') if name in sys.modules]\n"
        "print(json.dumps({'refused': f'{sorted(os.environ)} {heavy}.'}))"
    )
    said = refusal(SEEDS["png"])
    assert "EXPLORER" not in said and "PYTHONPATH" in said and said.endswith("[].")


@LINUX
def test_it_can_have_only_so_much_memory_and_write_no_file(instead, tmp_path):
    start = (
        f"import sys; sys.path.insert(0, {str(upload.DECODER.parent)!r}); import decoder; decoder._limit_yourself()\n"
    )
    instead(start + "decoder._decode = lambda *given: bytearray(decoder.MEMORY)\ndecoder.main()")
    assert "needs too much memory to decode" in refusal(SEEDS["png"])
    written = tmp_path / "written"
    instead(start + f"open({str(written)!r}, 'w').write('x')")
    assert "made its decoder fail" in refusal(SEEDS["jpeg"])
    assert not written.exists() or written.stat().st_size == 0


def test_a_picture_is_decoded_once(monkeypatch):
    calls = []

    def counted(data, shape, look):
        calls.append(shape)
        return decode(data, shape, look)

    monkeypatch.setattr(upload, "_in_child", counted)
    first, again = (read_upload(bytes(bytearray(SEEDS["png"])), name, RGB) for name in ("a.png", "b.png"))
    assert torch.equal(first.pixels, again.pixels) and calls == [RGB]
    read_upload(SEEDS["png"], "a.png", GREY)
    assert calls == [RGB, GREY]


def test_uploads_from_many_threads_do_not_disturb_each_other():
    files = [saved(noise(40 + k, 40, seed=k), "PNG") for k in range(4)] + [b"no image", BOMBS["9000x9000, 1 bit"][0]]

    def read(data: bytes) -> list[float] | str:
        try:
            return read_upload(data, "cat.png", RGB).pixels.flatten().tolist()
        except BadImage as error:
            return one_sentence(error)

    alone = [read(data) for data in files]
    upload._read.cache_clear()
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(read, files * 2)) == alone * 2
    assert [isinstance(result, str) for result in alone] == [False] * 4 + [True] * 2


PEAKS = """
import resource, subprocess, sys
for name in sys.argv[1:]:
    with open(name, "rb") as file:
        done = subprocess.run(COMMAND, stdin=file, stdout=subprocess.PIPE, env=ENVIRONMENT)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    print(done.returncode, int(done.stdout.startswith(b'{"refused"')), peak / 1024)
"""


def peaks(folder: Path, files: list[bytes]) -> list[tuple[int, bool, float]]:
    """The decoder's exit code, whether it refused, and its greatest memory in MiB up to each of these files.

    Asked by a small process: a child begins with the peak of the one that starts it.
    """
    paths = [folder / f"{k}.bin" for k in range(len(files))]
    for path, data in zip(paths, files, strict=True):
        path.write_bytes(data)
    program = f"COMMAND, ENVIRONMENT = {upload.command(RGB)!r}, {upload.environment()!r}\n{PEAKS}"
    said = subprocess.run(
        [sys.executable, "-S", "-c", program, *map(str, paths)], capture_output=True, text=True, timeout=150, check=True
    ).stdout
    return [(int(code), refused == "1", float(peak)) for code, refused, peak in map(str.split, said.splitlines())]


@LINUX
def test_the_worst_uploads_stay_under_100_megabytes(tmp_path):
    bombs = [data for data, _ in BOMBS.values()]
    _, exif = turned(Image.new("L", (1, 1)), 6)
    big = np.tile(smooth(200, 200), (10, 10, 1))
    alpha = Image.fromarray(big).convert("RGBA")
    alpha.putalpha(128)
    ink = Image.fromarray(big).convert("CMYK")
    worst = [
        saved(alpha, "PNG", exif=exif, compress_level=1),
        saved(ink, "JPEG", exif=exif, progressive=True),
        png16(np.full((2000, 2000, 1), 300, np.uint16), 0, chunk(b"tRNS", b"\x01\x2c")),
        saved(alpha, "WEBP", exif=exif, method=0),
    ]
    assert all(len(data) < MAX_BYTES for data in worst)
    found = peaks(tmp_path, bombs + worst)
    assert [(code, refused) for code, refused, _ in found] == [(0, True)] * len(bombs) + [(0, False)] * len(worst)
    assert found[len(bombs) - 1][2] < 45  # refused files: the program itself
    assert found[-1][2] < 100  # accepted ones
