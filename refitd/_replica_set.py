"""Making one fresh or restarted `mongod` the primary of a replica set of its own."""

from __future__ import annotations

import socket
from typing import Any

from pymongo import MongoClient
from pymongo.errors import ConnectionFailure, OperationFailure

# https://github.com/mongodb/mongo/blob/v6.0/src/mongo/base/error_codes.yml
_ALREADY_INITIALIZED = 23
_NOT_YET_INITIALIZED = 94
_CODES_OF_STARTING_UP = {
    13,  # Unauthorized: not our server, but another's that has our port; ours is about to end and say so
    11600,  # InterruptedAtShutdown
    11602,  # InterruptedDueToReplStateChange
    13435,  # NotPrimaryNoSecondaryOk
    13436,  # NotPrimaryOrSecondary
    10107,  # NotWritablePrimary
    91,  # ShutdownInProgress
    103,  # NewReplicaSetConfigurationIncompatible: the node could not reach itself yet
    109,  # ConfigurationInProgress
    74,  # NodeNotFound: the same
    93,  # InvalidReplicaSetConfig
}


class Member:
    """The only member of replica set `name`, at `host:port`, run by process `pid`.

    Call `advance` until it is True, with a short pause between.
    """

    def __init__(self, host: str, port: int, name: str, pid: int) -> None:
        self._host, self._port, self._name, self._pid = host, port, name, pid
        self._configured = False

    def advance(self) -> bool:
        """One step towards being primary, 0.2 s at most while nothing answers. True when it takes writes.

        Each step connects anew: a connection made before the set is configured learns of its primary late.
        """
        if not self._listens():
            return False
        with MongoClient[dict[str, Any]](
            self._host, self._port, directConnection=True, serverSelectionTimeoutMS=200, connectTimeoutMS=5000
        ) as client:
            try:
                if not self._configured:
                    self._configure(client)
                return self._configured and bool(client.admin.command("hello")["isWritablePrimary"])
            except ConnectionFailure:
                return False
            except OperationFailure as error:
                if error.code in _CODES_OF_STARTING_UP:
                    return False
                raise

    def _listens(self) -> bool:
        """Asked first because the driver, once refused, waits half a second before it tries again."""
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            return probe.connect_ex((self._host, self._port)) == 0

    def _configure(self, client: MongoClient[dict[str, Any]]) -> None:
        """Bring the stored configuration, if any, in line with our address."""
        if client.admin.command("serverStatus")["pid"] != self._pid:
            return  # another program's server has this port: ours is about to end and say so
        address = f"{self._host}:{self._port}"
        try:
            config = client.admin.command("replSetGetConfig")["config"]
        except OperationFailure as error:
            if error.code != _NOT_YET_INITIALIZED:
                raise
            self._initiate(client, address)
            return
        if [member["host"] for member in config["members"]] != [address]:
            # The port of the last run is taken, so the node no longer finds itself in its own configuration:
            # without a primary there is no majority, hence `force`.
            config["members"] = [{"_id": 0, "host": address}]
            config["version"] += 1
            client.admin.command("replSetReconfig", config, force=True)
        self._configured = True

    def _initiate(self, client: MongoClient[dict[str, Any]], address: str) -> None:
        # After a restart the node waits this long for a primary to appear; there is none but itself.
        settings = {"electionTimeoutMillis": 100}
        members = [{"_id": 0, "host": address}]
        try:
            client.admin.command("replSetInitiate", {"_id": self._name, "members": members, "settings": settings})
        except OperationFailure as error:
            if error.code != _ALREADY_INITIALIZED:  # it was still reading its configuration from disk
                raise
            return
        self._configured = True
