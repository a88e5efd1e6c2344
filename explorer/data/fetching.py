"""Downloads: a file from the internet, streamed to the disk piece by piece, or one sentence about what went wrong."""

from __future__ import annotations

import http.client
import urllib.request
from collections.abc import Callable
from pathlib import Path

from explorer.core import DataUnavailable

TIMEOUT = 30.0  # seconds without an answer before a download is given up
_PIECE = 1 << 18  # bytes read at a time


def fetch(url: str, target: Path, what: str, remedy: str, progress: Callable[[int], None]) -> int:
    """Stream `url` to the file `target`; returns its bytes. `progress` is told how many have come, and may raise to stop it.

    Raises DataUnavailable where the network fails, in a sentence about `what` that ends in `remedy`, and OSError where the disk does.
    """
    failed = f"{what} could not be downloaded from {url}"
    done = 0
    with target.open("wb") as out:
        try:
            response = urllib.request.urlopen(url, timeout=TIMEOUT)
        except (OSError, http.client.HTTPException) as error:
            raise DataUnavailable(f"{failed} ({error}): {remedy}.") from error
        with response:
            promised = response.headers.get("Content-Length") or ""
            while True:
                try:
                    piece = response.read(_PIECE)
                except (OSError, http.client.HTTPException) as error:
                    raise DataUnavailable(f"{failed} ({error}): {remedy}.") from error
                if not piece:
                    break
                out.write(piece)
                done += len(piece)
                progress(done)
    if promised.isdecimal() and done < int(promised):
        raise DataUnavailable(f"{failed} (the connection ended after {done:,} of {promised} bytes): {remedy}.")
    return done
