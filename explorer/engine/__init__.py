"""The one place that owns the device: models loaded once, requests advanced in turn, attacks recorded.

`engine.submit(session, attack_work(engine, request))` gives a ticket whose `latest` is the newest Snapshot.
"""

from explorer.core.device import DEVICES, choose, describe
from explorer.engine.captions import captions
from explorer.engine.engine import Busy, Engine, Failed, Ticket
from explorer.engine.export import Export
from explorer.engine.request import PAGE, AttackRequest, Budget, eps_text
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
    "Result",
    "Snapshot",
    "Ticket",
    "attack_work",
    "captions",
    "choose",
    "describe",
    "eps_text",
]
