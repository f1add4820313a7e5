"""What the login may do: all that is needed, and not much more."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pymongo.errors import PyMongoError

from refitd.checks.check import Check, bad, doubtful, good
from registry.mongo.connection import PREFIX, translate
from registry.mongo.store import MongoStore
from registry.store import Store

#: On the user's own collections.
READS = frozenset({"find", "changeStream", "listCollections"})
#: On ours; `readWrite` has all but `collMod`, which sets the validator and enables images.
WRITES = frozenset({"find", "insert", "update", "remove", "createCollection", "createIndex"})
ALTERS = frozenset({"collMod"})

#: Roles that let a login do much more than keep models fresh.
_POWERFUL = frozenset(
    {
        "root", "__system", "clusterAdmin", "clusterManager", "hostManager", "userAdminAnyDatabase",
        "dbAdminAnyDatabase", "readWriteAnyDatabase", "readAnyDatabase", "userAdmin", "dbOwner", "restore",
    }
)  # fmt: skip


def rights_checks(store: Store) -> Iterator[Check]:
    """By what the server says of the login, without trying anything."""
    if not isinstance(store, MongoStore):
        return
    try:
        info = store.connection.client.admin.command("connectionStatus", showPrivileges=True)["authInfo"]
    except PyMongoError as error:
        yield doubtful("login", f"the server doesn't say what it may do: {translate(error)}", None)
        return
    users = [user["user"] for user in info.get("authenticatedUsers", [])]
    if not users:
        yield _no_login(store)
        return
    database = store.connection.database.name
    yield _needed(users[0], info.get("authenticatedUserPrivileges", []), database)
    yield _not_more(users[0], info.get("authenticatedUserRoles", []), database)


def _no_login(store: MongoStore) -> Check:
    hosts = {host for host, _ in store.connection.client.nodes}
    if hosts <= {"127.0.0.1", "localhost", "::1"}:
        return good("login", "none: the server is on this machine and asks for none")
    return doubtful(
        "login",
        "none: whoever reaches the server may read and write everything",
        "switch on access control (mongod --auth) and give refitd a login of its own; see deploy/mongo/",
    )


def _needed(user: str, privileges: Iterable[Mapping[str, Any]], database: str) -> Check:
    ours, theirs = allowed(privileges, database, f"{PREFIX}models"), allowed(privileges, database, "a collection")
    missing = sorted((WRITES - ours) | (READS - theirs))
    grant = f'db.getSiblingDB("{database}").grantRolesToUser("{user}", [{{role: "readWrite", db: "{database}"}}])'
    if missing:
        return bad("login", f"{user} may not {', '.join(missing)} in {database}", grant)
    if ALTERS - ours:
        role = f'{{role: "dbAdmin", db: "{database}"}}'
        return doubtful(
            "login",
            f"{user} may not collMod: the daemon can't set its validator, nor `doctor --fix` enable images",
            f'db.getSiblingDB("{database}").grantRolesToUser("{user}", [{role}])',
        )
    return good("login", f"{user} may do all that is needed in {database}")


def _not_more(user: str, roles: Iterable[Mapping[str, Any]], database: str) -> Check:
    listed = [(str(role["role"]), str(role["db"])) for role in roles]
    more = [f"{role}@{db}" for role, db in listed if role in _POWERFUL or (db not in (database, "admin"))]
    if more:
        return doubtful(
            "least privilege",
            f"{user} has {', '.join(more)}, which is more than refitd needs",
            f'give it readWrite and dbAdmin on "{database}" alone; see deploy/mongo/ for a role',
        )
    return good("least privilege", ", ".join(f"{role}@{db}" for role, db in listed) or "custom privileges")


def allowed(privileges: Iterable[Mapping[str, Any]], database: str, collection: str) -> frozenset[str]:
    """Every action that these privileges allow on one collection. An empty name in a resource means any."""
    found: set[str] = set()
    for privilege in privileges:
        resource = privilege.get("resource", {})
        anywhere = bool(resource.get("anyResource"))
        there = "db" in resource and resource["db"] in ("", database) and resource.get("collection") in ("", collection)
        if anywhere or there:
            found.update(privilege.get("actions", ()))
    return frozenset(found)
