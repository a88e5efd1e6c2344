"""`python -m explorer.jobs.runner FOLDER`: the process of one run, however it was started.

It waits for its turn (without torch), trains, exports, measures and publishes. A stop (SIGTERM, the file `cancel`,
Ctrl-C in a terminal) lets the training save a checkpoint; after three seconds it ends wherever it is. Several processes
are torchrun's: this one becomes torchrun, which starts this module again as every rank; rank 0 owns the state.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import platform
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from explorer.core.errors import Cancelled, ExplorerError, InvalidValue
from explorer.core.files import write_atomically
from explorer.core.memory import keep_freed_memory
from explorer.jobs.claim import claim, register, still_first
from explorer.jobs.launch import PROJECT
from explorer.jobs.state import Process
from explorer.jobs.store import EARLY, FULL, ID, Run, Store, Taken

if TYPE_CHECKING:
    import torch

    from explorer.training import Progress

SLICE = 0.05  # seconds; a wait notices a stop as fast
POLL = 0.5  # seconds between two looks whether it is this run's turn
BEAT = 1.0  # seconds between two heartbeats
GRACE = 3.0  # seconds a stop may take before the run is ended wherever it is
AGAIN = 1.0  # seconds after which it is ended once more
BEHIND = 10  # the niceness of a run in the background
RETRY = 3.0  # seconds between two tries on a full disk
MEASURED = {"cpu": 100, "mps": 200, "cuda": 1000}  # test images under attack when a run ends, by device
SMOKE_MEASURED = 10
LOG = logging.getLogger("explorer.jobs")

T = TypeVar("T")


class Flag:
    """As threading.Event, but a signal's handler may set it while this very thread waits for it."""

    def __init__(self) -> None:
        self._set = False

    def set(self) -> None:
        self._set = True

    def is_set(self) -> bool:
        return self._set

    def wait(self, seconds: float) -> bool:
        end = time.monotonic() + seconds
        while not self._set and (left := end - time.monotonic()) > 0:
            time.sleep(min(left, SLICE))
        return self._set


class Life:
    """One process's part in a run's life: heartbeat, stop, state. Use as a context, in the main thread."""

    def __init__(self, run: Run, heard: Callable[[str], None] | None = None):
        """`heard` gets, in a terminal, what the run does now."""
        self.run, self.heard = run, heard
        self.rank = int(os.environ.get("RANK", 0))
        self.parent = os.getppid()
        self.me = Process.of(self.parent if "RANK" in os.environ else None)  # of several ranks, their agent
        self.stop, self.over = Flag(), threading.Event()
        self.registered = self.closing = self.lost = self.paused = self.leaving = False
        self.behind = False  # whether people in front of the app come first, once this run is under way
        self._asked_at = 0.0
        self._threads: int | None = None  # torch's, before the work: a terminal's process has a life afterwards
        self._ending = threading.Lock()
        self.progress: dict[str, Any] = {}
        self._began: tuple[int, float] | None = None
        self._spoken = ""

    @property
    def first(self) -> bool:
        """Whether this process owns the state."""
        return self.rank == 0

    def __enter__(self) -> Life:
        self._handlers = {}
        if threading.current_thread() is threading.main_thread():
            wanted = {signal.SIGTERM: self._asked, signal.SIGINT: self._asked}
            if self.run.spec.place != "local":
                wanted[signal.SIGUSR2] = self._leave
            for number, handler in wanted.items():
                self._handlers[number] = signal.signal(number, handler)
        self._file = logging.FileHandler(self.run.folder / "log.txt", encoding="utf-8")
        self._file.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
        logging.raiseExceptions = False  # a line lost on a full disk is no reason to fail
        LOG.addHandler(self._file)
        LOG.setLevel(logging.INFO)
        threading.Thread(target=self._beat, name="heartbeat", daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        with self._ending:
            self.over.set()
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        LOG.removeHandler(self._file)
        self._file.close()
        if self._threads is not None:
            import torch

            torch.set_num_threads(self._threads)

    # -- being stopped

    def _asked(self, number: int, frame: object) -> None:
        now = time.monotonic()
        if not self._asked_at:
            self._asked_at = now
            self.stop.set()
            threading.Thread(target=self._insist, name="insists on the stop", daemon=True).start()
        elif (number == signal.SIGINT or now - self._asked_at >= GRACE) and not self.closing:  # Ctrl-C twice; or late
            raise Cancelled("It was stopped at once; it can go on from its last checkpoint.")

    def _insist(self) -> None:
        """Some seconds after the first signal another one, which ends the work wherever it is; and, as the exception may
        be swallowed on its way, another."""
        self.over.wait(GRACE)
        while not self.over.wait(SLICE):
            self._signal()
            self.over.wait(AGAIN)

    def _signal(self) -> None:
        with self._ending:
            if not self.over.is_set():  # the handler is ours still
                os.kill(os.getpid(), signal.SIGTERM)

    def _leave(self, number: int, frame: object) -> None:
        """The cluster's time limit is near: save, and come back in another turn."""
        self.leaving = True
        self.stop.set()

    def _beat(self) -> None:
        while not self.over.wait(BEAT):
            if "RANK" in os.environ and os.getppid() != self.parent:
                os._exit(1)  # the ranks' agent was killed
            if not self.first:
                continue
            self._touch()
            if self.run.stopping and not self.stop.is_set():
                self._stop_main()
            with contextlib.suppress(InvalidValue):
                if self.registered and not self.me.same(self.run._stored().process) and not self.stop.is_set():
                    self.lost = True
                    self._stop_main()

    def _stop_main(self) -> None:
        if self._handlers:
            self._signal()
        else:
            self.stop.set()

    def _touch(self) -> None:
        """Says that it is alive, and how far it has come. Not forced to disk: only the living read it."""
        path = self.run.folder / "heartbeat"
        half = path.with_name(".heartbeat.new")
        try:
            half.write_text(json.dumps(self.progress), "utf-8")
            os.replace(half, path)
        except OSError:  # a full disk
            with contextlib.suppress(OSError):
                os.utime(path)

    # -- the state

    def tell(self, message: str) -> None:
        """What it does now: for lists and pages, and, once, for the log."""
        self.progress = {**self.progress, "message": message}
        topic = message.partition(":")[0]
        if topic == self._spoken:
            return
        self._spoken = topic
        LOG.info("%s", message)
        if self.heard is not None:
            self.heard(message)

    def set(self, **changes: Any) -> None:
        """Change the run's state, if it is still this process's. Raises Taken."""
        if self.first:
            self.run.update(self.me, **changes)

    @contextlib.contextmanager
    def living(self) -> Iterator[None]:
        """Whatever ends the work inside ends the run accordingly; the exception goes on."""
        try:
            yield
        except BaseException as error:
            self.closing = True
            status, message = verdict(error)
            ending: dict[str, Any] = {"status": status, "message": message}
            if status == "cancelled" and self.run.spec.place != "local" and not self.run.stopping:  # it was the cluster's doing
                message = "It saved its state before its time limit." if self.leaving else "The cluster ended its processes."
                # whether a job that was ended comes back, the cluster alone knows: `Slurm.ending` asks it
                ending = {"status": "queued", "message": message, "process": None} if self.leaving else {}
                status = "stopped"
            LOG.info("%s: %s", status, message, exc_info=None if isinstance(error, ExplorerError) else error)
            if ending and not isinstance(error, Taken) and not self.lost:
                self._patiently_at_the_end(lambda: self.set(**ending))
            raise

    def _patiently_at_the_end(self, write: Callable[[], Any]) -> None:
        try:
            write()
        except (OSError, ExplorerError) as error:
            LOG.warning("The end could not be noted: %s", error)

    def wait_for_turn(self, attached: bool = False) -> None:
        """Register, then wait in the queue. Raises Cancelled, Taken."""
        if not self.first:
            return
        state = register(self.run, self.me, attached=attached)
        self.registered = True
        LOG.info("Attempt %d, process %d, for %s", state.attempt, self.me.pid, state.device)
        self._touch()
        if self.run.spec.place != "local":  # the cluster has a queue of its own
            self.set(status="running", message="It begins.")
            return
        ahead: Run | None = None
        while True:
            if self.stop.is_set() or self.run.stopping:
                raise Cancelled(EARLY)
            if ahead is None or not still_first(ahead, self.run, state):
                before, ahead = ahead, claim(self.run, self.me)
                if ahead is None:
                    return
                if before is None or before.id != ahead.id:
                    message = f"Waits for {state.device}: run {ahead.id} comes first."
                    self.set(message=message)
                    self.tell(message)
            self.stop.wait(POLL)

    # -- the work

    def work(
        self,
        target: Path | None = None,
        name: str | None = None,
        show: Callable[[Progress], None] | None = None,
        command: str | None = None,
    ) -> Any:
        """Train, export to `target` (default: the run's export folder) as `name`; in a store also measure and publish.

        Returns (card, result of the training). Raises what ends the run.
        """
        import torch

        from explorer.core import ranks
        from explorer.models import zoo
        from explorer.training import train
        from explorer.training.export import export

        self.registered = True  # a rank's agent did that
        run, spec = self.run, self.run.spec
        recipe = spec.build()
        facts = self.settle(recipe)
        self._threads = torch.get_num_threads()
        torch.set_num_threads(facts["threads"])
        device = torch.device(facts["device"])
        self.show, self._began = show, None
        self.tell("Reads the training images.")
        bf16 = facts["precision"] == "bfloat16"
        options = {} if spec.every is None else {"every": spec.every}
        with ranks.start(device):
            result = train(
                recipe, run.folder, device=device, limit=spec.limit, bf16=bf16, progress=self._progress,
                should_stop=self.stop.is_set, on_full=self.wait_for_room, say=lambda text: LOG.info("%s", text), **options,
            )  # fmt: skip
        if not self.first:
            return None, result
        self.tell("Stores the model.")
        name = name or spec.model_name(run.id)
        target = target or run.folder / "export" / recipe.dataset
        words = {"title": spec.title, "summary": spec.summary}
        card = self.patiently(lambda: export(
            result, recipe, spec.recipe, name, target, hardware=facts["hardware"], threads=facts["threads"],
            precision=PRECISION_WORDS[facts["precision"]], command=command, **words,
        ))  # fmt: skip
        if run.store is not None:
            with zoo.beside(target.parent):
                self.measure(name, device)
            self.patiently(lambda: publish(target, run.store.zoo / recipe.dataset, card))
        best = result.history[result.best_epoch - 1]
        scores = ", ".join(
            f"{key} {100 * best[key]:.1f} % of {counted(result.held_out, key in recipe.half):,}"
            for key in ("clean", "robust", "noisy", "certified")
            if key in best
        )
        kept = f"Kept epoch {result.best_epoch} of {recipe.epochs}: {scores} held-out images."
        if result.warning:
            kept = f"{result.warning} {kept}"
        self.closing = True
        self.patiently(lambda: self.set(status="finished", message=kept, model=name))
        LOG.info("finished: %s", kept)
        return card, result

    def settle(self, recipe: Any) -> dict[str, Any]:
        """Device, threads and precision of this attempt (those of the first one, if it said), noted with all versions."""

        from explorer.core.device import choose, cores, hardware_name

        run, spec = self.run, self.run.spec
        before = run.environment
        held = (run.state.device or "").split(",")[0]
        device = choose("cuda" if spec.processes > 1 and held.startswith("cuda") else held or spec.device)
        asked = os.environ.get("EXPLORER_THREADS", "")
        share = int(asked) if asked.isdecimal() and int(asked) else max(cores() // spec.processes, 1)
        facts = {
            "device": str(device),
            "hardware": hardware_name(device) if spec.processes == 1 else f"{spec.processes} processes, each on {hardware_name(device)}",
            "threads": spec.threads or before.get("threads") or share,
            "processes": spec.processes,
            "precision": precision_of(spec.precision, device) if "precision" not in before else before["precision"],
            "host": platform.node(),
            "commit": commit(),
            "versions": versions(),
        }
        if not isinstance(facts["threads"], int) or facts["precision"] not in PRECISION_WORDS:
            raise InvalidValue(f"{run.folder / 'environment.json'} makes no sense; delete it to go on.")
        if self.first:
            for key in ("hardware", "versions", "commit"):
                if before and before.get(key) != facts[key]:
                    LOG.info("%s differs from the attempt before: %s, now %s", key, before.get(key), facts[key])
            self.patiently(lambda: write_atomically(run.folder / "environment.json", json.dumps(facts, indent=1).encode()))
        return facts

    def measure(self, name: str, device: torch.device) -> None:
        """The card's standard measures, on few images where they take long. Raises Cancelled."""
        from explorer.evaluation import standard_measures, write_measures

        n = SMOKE_MEASURED if self.run.spec.smoke else MEASURED[device.type]
        few = n < 1000  # then also: no transfer from all the other models, and no attacks that take minutes

        def show(label: str, done: int, total: int) -> None:
            self.tell(f"Measures {label}: {done:,} of {total:,} images.")

        for measure in standard_measures(
            name, device=device, n=n, averaged_n=n // 2, clean_n=10 * n if few else None,
            transfer_from=[] if few else None, thorough=not few, progress=show, should_stop=self.stop.is_set,
        ):  # fmt: skip
            self.patiently(lambda measure=measure: write_measures(name, [measure]))

    def _progress(self, now: Progress) -> None:
        if self.paused:
            self.paused = False
            self.set(status="running", message="It goes on.")
        moment = time.monotonic()
        if self._began is None:
            self._began = (now.update - 1, moment)
            if self.behind:
                step_behind()
        done, began = now.update - self._began[0], self._began[1]
        left = (moment - began) / max(done, 1) * (now.updates - now.update)
        facts = {"update": now.update, "updates": now.updates, "epoch": now.epoch, "epochs": now.epochs, "left": round(left, 1)}
        self.progress = {**facts, "message": f"Trains: epoch {now.epoch + 1} of {now.epochs}."}
        if now.held_out is not None:
            scores = ", ".join(f"{key} {100 * value:.1f} %" for key, value in now.held_out.items() if key != "score")
            LOG.info("Epoch %d of %d: loss %.3f; held out: %s", now.epoch + 1, now.epochs, now.loss, scores)
        if self.show is not None:
            self.show(now)

    def wait_for_room(self, error: OSError) -> None:
        """Pause: say why, and come back after some seconds for another try. Raises Cancelled."""
        if not self.paused:
            self.paused = True
            place = error.filename or self.run.folder
            message = f"The disk of {place} is full ({error.strerror}): the run waits and goes on by itself once there is room."
            self.tell(message)
            self.set(status="paused", message=message)
        if self.stop.wait(RETRY):
            raise Cancelled("It was stopped while the disk was full; it can go on from its last checkpoint.")

    def patiently(self, write: Callable[[], T]) -> T:
        """`write`, again and again while the disk is full."""
        while True:
            try:
                done = write()
            except OSError as error:
                if error.errno not in FULL:
                    raise
                self.wait_for_room(error)
                continue
            if self.paused:
                self.paused = False
                self.set(status="running", message="It goes on.")
            return done


PRECISION_WORDS = {"float32": "float32", "bfloat16": "bfloat16 autocast"}  # as a spec says it: as a card says it


def precision_of(asked: str, device: torch.device) -> str:
    """auto: bfloat16 where the device computes in it, else float32."""
    from explorer.core.device import computes_bfloat16

    if asked != "auto":
        return asked
    return "bfloat16" if computes_bfloat16(device) else "float32"


def counted(held_out: int | None, half: bool) -> int | None:
    """Images a measure was made on: all held-out ones, or the first half."""
    return held_out and (max(held_out // 2, 1) if half else held_out)


def step_behind() -> None:
    """Give all threads of this process a lower priority: an attack on a page then waits for this run far less."""
    import psutil

    if psutil.WINDOWS:
        psutil.Process().nice(psutil.BELOW_NORMAL_PRIORITY_CLASS)
        return
    own = os.getpriority(os.PRIO_PROCESS, 0)  # back up only root may go
    for thread in psutil.Process().threads() if psutil.LINUX else ():  # elsewhere the process has one priority
        with contextlib.suppress(ProcessLookupError):  # it has ended
            os.setpriority(os.PRIO_PROCESS, thread.id, max(BEHIND, own))
    os.setpriority(os.PRIO_PROCESS, 0, max(BEHIND, own))


def verdict(error: BaseException) -> tuple[str, str]:
    """The status in which this ends a run, and why, in a sentence."""
    if isinstance(error, Cancelled):
        return "cancelled", str(error)
    if isinstance(error, KeyboardInterrupt):
        return "cancelled", "It was stopped at once; it can go on from its last checkpoint."
    if isinstance(error, ExplorerError):
        return "failed", str(error)
    first = (str(error).splitlines() or [""])[0]
    if isinstance(error, MemoryError) or "out of memory" in first.lower():
        return "failed", f"It ran out of memory: {first or 'choose a smaller batch'}"
    return "failed", f"{type(error).__name__}: {first}"


def publish(source: Path, target: Path, card: Any) -> None:
    """Copy the model into the zoo, its card last: whoever finds the card finds all."""
    from explorer.models import zoo

    about = source / f"{card.name.split('/')[-1]}.json"
    for path in (source / card.file, zoo.features_beside(about), about):
        if path.is_file():
            write_atomically(target / path.name, path.read_bytes())


def versions() -> dict[str, str]:
    import numpy
    import torch

    import explorer

    return {"python": platform.python_version(), "torch": torch.__version__, "numpy": numpy.__version__, "explorer": explorer.__version__}


def commit() -> str | None:
    """The project's commit, with a plus where files were changed since; None where git does not know."""
    git = shutil.which("git")
    if git is None or not (PROJECT / ".git").exists():
        return None
    say = [git, "-C", str(PROJECT), "describe", "--always", "--abbrev=12", "--dirty=+", "--exclude=*"]
    try:
        done = subprocess.run(say, capture_output=True, text=True, check=False, timeout=5)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def opened(folder: Path) -> Run:
    """The run in this folder, as part of the store around it. Raises InvalidValue."""
    folder = folder.absolute()
    if not ID.fullmatch(folder.name) or not (folder / "spec.json").is_file():
        raise InvalidValue(f"{folder} is not the folder of a run.")
    return Run(folder, Store(folder.parent))


def become_torchrun(run: Run) -> None:
    """Replace this process by torchrun, which starts one rank for each of the run's processes."""
    spec, devices = run.spec, run.state.devices
    if any(device.startswith("cuda") for device in devices):
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(sorted(device.partition(":")[2] for device in devices))
    words = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={spec.processes}"]
    os.execv(sys.executable, [sys.executable, *words, "-m", "explorer.jobs.runner", str(run.folder)])


def main(argv: list[str] | None = None, work: Callable[[Life], Any] = Life.work) -> int:
    """Live the life of the run in the folder named; `work` is what it is about.

    Returns 0 when the run finished or was somebody else's, 1 when it failed, 130 when it was stopped."""
    words = sys.argv[1:] if argv is None else argv
    try:
        run = opened(Path(words[0])) if len(words) == 1 else None
    except InvalidValue as error:
        sys.stderr.write(f"{error}\n")
        return 2
    if run is None:
        sys.stderr.write("usage: python -m explorer.jobs.runner FOLDER\n")
        return 2
    with Life(run) as life:
        try:
            with life.living():
                if "RANK" not in os.environ or run.state.status == "queued" or run.spec.place != "local":
                    life.wait_for_turn()
                if run.spec.processes > 1 and "RANK" not in os.environ and run.spec.place == "local":
                    become_torchrun(run)
                work(life)
        except Taken:
            return 0
        except Cancelled:
            return 130 if life.first else 0  # srun would end all processes with the first that fails
        except Exception:  # its state and its log say what
            return 1
    return 0


def in_background(life: Life) -> Any:
    """The work of a run that nobody waits for in a terminal."""
    life.behind = life.run.spec.place == "local"
    if life.behind and not life.first:
        step_behind()  # the first of several tells when the work is under way; the others wait for it anyway
    return life.work()


if __name__ == "__main__":
    keep_freed_memory()
    sys.exit(main(work=in_background))
