"""Engine: a scheduler on one device, a cache of models, and the work that pages ask for: attacks, batches, feature clouds.

`engine.submit(session, attack_work(engine, request))` gives a Future whose `latest` is the newest Snapshot.
"""

from explorer.core.device import DEVICES, choose, describe
from explorer.engine.captions import captions
from explorer.engine.engine import Engine
from explorer.engine.export import Export
from explorer.engine.request import PAGE, AttackRequest, Budget, eps_text
from explorer.engine.scheduler import Busy, Failed, Future
from explorer.engine.tracing import Result, Snapshot, attack_work

__all__ = [
    "DEVICES",
    "PAGE",
    "AttackRequest",
    "Budget",
    "Busy",
    "Engine",
    "Export",
    "Failed",
    "Future",
    "Result",
    "Snapshot",
    "attack_work",
    "captions",
    "choose",
    "describe",
    "eps_text",
]
