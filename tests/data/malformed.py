"""Malformed images through the decoder, as an upload would go: `python -m tests.data.malformed 10000` counts crashes and peak memory.

Each is a small true picture of one of the formats, cut, with bytes changed, doubled or spliced with another one. They are decoded
with the limits of an upload's process; a crash is any end but an answer.
"""

from __future__ import annotations

import io
import random
import subprocess
import sys
from collections import Counter

import numpy as np
from PIL import Image

from explorer.data import upload

KINDS = ("PNG", "JPEG", "WEBP", "GIF", "AVIF")
SHAPES = ((3, 224, 224), (3, 32, 32), (1, 28, 28))


def seeds() -> dict[str, bytes]:
    """A true picture of each format, and one in several frames where it can."""
    rng = np.random.default_rng(0)
    frames = [Image.fromarray(rng.integers(0, 256, (40, 56, 3), np.uint8)) for _ in range(3)]
    found = {}
    for kind in KINDS:
        buffer = io.BytesIO()
        frames[0].save(buffer, kind)
        found[kind] = buffer.getvalue()
        if kind != "JPEG":
            buffer = io.BytesIO()
            frames[0].save(buffer, kind, save_all=True, append_images=frames[1:])
            found[f"{kind} frames"] = buffer.getvalue()
    return found


def malformed(count: int, seed: int = 0) -> list[tuple[str, bytes]]:
    """So many, the same for the same seed: (what it was made of, its bytes)."""
    rng, true = random.Random(seed), seeds()
    names, made = sorted(true), []
    for _ in range(count):
        name = rng.choice(names)
        data = bytearray(true[name])
        way = rng.randrange(4)
        if way == 0:
            del data[rng.randrange(len(data)) :]
        if way == 1:
            at = rng.randrange(len(data))
            data[at:at] = data[rng.randrange(len(data)) :][: rng.randrange(1, 200)]
        if way == 2:
            data[rng.randrange(len(data)) :] = true[rng.choice(names)][rng.randrange(64) :]
        for _ in range(rng.choice((1, 1, 4, 20))):
            if data:
                data[rng.randrange(len(data))] = rng.randrange(256)
        made.append((name, bytes(data)))
    return made


PROGRAM = """
import sys
sys.path.insert(0, FOLDER)
import decoder
decoder._limit_yourself()
decoder.AvifImagePlugin.DEFAULT_MAX_THREADS = 1
take = sys.stdin.buffer.read
while head := take(8):
    number, size = int.from_bytes(head[:4], "little"), int.from_bytes(head[4:], "little")
    try:
        decoder.decode(take(size), SHAPES[number % len(SHAPES)], decoder.Look(0, bool(number % 2)))
        print("read", flush=True)
    except decoder.Refused:
        print("refused", flush=True)
with open("/proc/self/status") as status:
    print("peak", *[line.split()[1] for line in status if line.startswith("VmHWM")], file=sys.stderr)
"""


def ends(count: int, seed: int = 0, together: int = 200) -> Counter[str]:
    """How the decoding of each ended: "read", "refused", or a crash, with what was decoded; "peak": KiB of the largest process.

    So many images `together` go through one process, which has the limits of an upload's own.
    """
    cases = malformed(count, seed)
    program = f"FOLDER, SHAPES = {str(upload.DECODER.parent)!r}, {SHAPES!r}\n{PROGRAM}"
    found: Counter[str] = Counter()
    start = 0
    while start < count:
        some = cases[start : start + together]
        framed = b"".join(
            (start + k).to_bytes(4, "little") + len(data).to_bytes(4, "little") + data
            for k, (_, data) in enumerate(some)
        )
        done = subprocess.run(
            [sys.executable, "-P", "-S", "-c", program], input=framed, capture_output=True,
            env=upload.environment(), check=False, timeout=120,
        )  # fmt: skip
        answers = done.stdout.decode().split()
        found.update(answers)
        said = done.stderr.decode().split()
        found["peak"] = max(found["peak"], int(said[-1]) if said[-2:-1] == ["peak"] else 0)
        start += len(answers)
        if len(answers) < len(some):  # it died over the next one
            found[f"crashed: {cases[start][0]}, number {start}, exit code {done.returncode}"] += 1
            start += 1
    return found


if __name__ == "__main__":
    found = ends(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000)
    peak = found.pop("peak") / 1024
    crashes = sum(number for end, number in found.items() if end.startswith("crashed"))
    for end, number in sorted(found.items()):
        sys.stdout.write(f"{number:7,} {end}\n")
    sys.stdout.write(f"{sum(found.values()):,} malformed images, {crashes} crashes, at most {peak:.0f} MiB a process\n")
