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
#: On ours.
WRITES = frozenset({"find", "insert", "update", "remove", "createCollection", "createIndex"})
#: On `refitd.models`, for its validator; on the user's collections for `doctor --fix` alone.
ALTERS = frozenset({"collMod"})

#: On the user's own collections these are more than keeping models fresh takes.
_HARMFUL = frozenset({"insert", "update", "remove", "dropCollection", "dropDatabase", "createUser", "grantRole"})
#: Roles that reach beyond one database.
_POWERFUL = frozenset(
    {
        "root", "__system", "clusterAdmin", "clusterManager", "hostManager", "userAdminAnyDatabase",
        "dbAdminAnyDatabase", "readWriteAnyDatabase", "readAnyDatabase", "userAdmin", "dbOwner", "restore",
    }
)  # fmt: skip
_ROLE = "the role refitdDaemon of deploy/mongo/role.js"


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
    yield _not_more(users[0], info, database)


def _no_login(store: MongoStore) -> Check:
    hosts = {host for host, _ in store.connection.client.nodes}
    if hosts <= {"127.0.0.1", "localhost", "::1"}:
        return good("login", "none: the server is on this machine and asks for none")
    return doubtful(
        "login",
        "none: whoever reaches the server may read and write everything",
        "switch on access control (mongod --auth) and make a login of its own with " + _ROLE,
    )


def _needed(user: str, privileges: Iterable[Mapping[str, Any]], database: str) -> Check:
    ours, theirs = allowed(privileges, database, f"{PREFIX}models"), allowed(privileges, database, "a collection")
    missing = sorted((WRITES - ours) | (READS - theirs))
    if missing:
        grant = f'db.getSiblingDB("{database}").grantRolesToUser("{user}", ["refitdDaemon"])'
        return bad("login", f"{user} may not {', '.join(missing)} in {database}", f"give it {_ROLE}: {grant}")
    if ALTERS - ours:
        said = f"{user} may not collMod {PREFIX}models, so the daemon can't set its validator"
        return doubtful("login", said, f"give it {_ROLE}")
    return good("login", f"{user} may do all that is needed in {database}")


def _not_more(user: str, info: Mapping[str, Any], database: str) -> Check:
    """What the login could do to the user's rows, or elsewhere, if somebody else got hold of it."""
    roles = [(str(role["role"]), str(role["db"])) for role in info.get("authenticatedUserRoles", [])]
    more = [f"has the role {role}@{db}" for role, db in roles if role in _POWERFUL or db not in (database, "admin")]
    harmful = _HARMFUL & allowed(info.get("authenticatedUserPrivileges", []), database, "a collection")
    if harmful:
        more.append(f"may {', '.join(sorted(harmful))} in every collection of {database}")
    if more:
        return doubtful("least privilege", f"{user} {' and '.join(more)}", f"more than it needs: {_ROLE} is enough")
    return good("least privilege", ", ".join(f"{role}@{db}" for role, db in roles) or "privileges of its own")


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
