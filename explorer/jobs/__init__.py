"""Background jobs: a run is a directory, lives in its own process, and waits its turn for its device.

`Store().submit(Spec("baseline"))` gives a Run; `python -m explorer.jobs.runner FOLDER` is the process. Nothing here
needs torch until a spec is checked or a run trains.
"""

from explorer.jobs.access import Guard, Permit, Refused
from explorer.jobs.spec import Spec
from explorer.jobs.state import LIVE, STATUSES, Process, State
from explorer.jobs.store import Run, Store

__all__ = ["LIVE", "STATUSES", "Guard", "Permit", "Process", "Refused", "Run", "Spec", "State", "Store"]
