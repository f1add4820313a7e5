"""Transactions that a killed process of ours left open.

The server keeps their locks until `transactionLifetimeLimitSeconds` (60 s by default), long after the process is gone:
nobody could take over its feed, nor end its fit. So every connection says in its `appName` whose it is, and whoever
finds that owner dead ends what it left open. A login may see and end its own sessions without any privilege.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pymongo import MongoClient
from pymongo.errors import OperationFailure

from registry.owner import is_dead, this_process

_APP = "refitd "
_LONGEST_NAME = 128  # https://github.com/mongodb/specifications: mongodb-handshake, `application.name`

_OPEN: list[dict[str, Any]] = [
    {"$currentOp": {"idleSessions": True, "idleConnections": False}},
    {"$match": {"transaction": {"$exists": True}, "appName": {"$regex": f"^{_APP}"}}},
    {"$project": {"appName": 1, "lsid": 1}},
]


def app_name() -> str:
    """What this process's connections call themselves."""
    name = _APP + this_process()
    return name if len(name.encode()) <= _LONGEST_NAME else _APP.strip()


def end_orphans(client: MongoClient[Any]) -> None:
    """End the open transactions of our processes that surely are dead; quietly, where the server doesn't tell them."""
    try:
        found: list[Mapping[str, Any]] = list(client.admin.aggregate(_OPEN))
        dead = [one["lsid"]["id"] for one in found if is_dead(one["appName"].removeprefix(_APP))]
        if dead:
            client.admin.command("killSessions", [{"id": each} for each in dead])
    except OperationFailure:  # then they end when their time is over
        return
