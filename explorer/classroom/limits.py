"""Rate limit: so many acts of one visitor, and of all together, within so many seconds."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable


class RateLimit:
    """Counts acts in a sliding window. Safe from any thread; it keeps as many moments as `of_all` allows."""

    def __init__(self, each: int, of_all: int, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.each, self.of_all, self.seconds, self._clock = each, of_all, seconds, clock
        self._acts: deque[tuple[float, str]] = deque()
        self._lock = threading.Lock()

    def take(self, who: str) -> float:
        """Count one more act, and 0; or count nothing, and the seconds until another is allowed."""
        with self._lock:
            wait = self._wait(who)
            if wait == 0:
                self._acts.append((self._clock(), who))
            return wait

    def wait(self, who: str, newcomers: bool = False) -> float:
        """Seconds until this visitor is allowed another act, 0: now. `newcomers`: who has done none yet is, whatever others do."""
        with self._lock:
            return 0.0 if newcomers and all(by != who for _, by in self._acts) else self._wait(who)

    def _wait(self, who: str) -> float:
        now = self._clock()
        while self._acts and now - self._acts[0][0] >= self.seconds:
            self._acts.popleft()
        mine = [at for at, by in self._acts if by == who]
        if len(mine) >= self.each:
            return self.seconds - (now - mine[-self.each])
        return self.seconds - (now - self._acts[0][0]) if len(self._acts) >= self.of_all else 0.0
