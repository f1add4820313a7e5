"""Under whose name PostgreSQL's programs run. They refuse to run as root, whatever they would be asked to do.

As root there are two ways. In a user namespace of its own (`unshare`, util-linux 2.36) the server believes to be
somebody else, but its files stay root's. Where namespaces are not allowed, as in most containers, it becomes an
ordinary user, and the data folder is given to that user. https://man7.org/linux/man-pages/man7/user_namespaces.7.html
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from pathlib import Path

from refitd._embedded_server import RunAs
from registry.errors import DatastoreUnsuitable

# Existing everywhere, with no rights of their own; Debian's package makes the first.
_ORDINARY_USERS = ("postgres", "nobody", "daemon")

_AS_ROOT = "PostgreSQL refuses to run as root"


def choose_account(db: Path) -> RunAs:
    """How to run a server whose data are, or will be, in `db`. DatastoreUnsuitable if there is no way.

    Data that belong to an ordinary user stay that user's.
    """
    if os.geteuid() != 0:
        return RunAs()
    if db.exists() and db.stat().st_uid != 0:
        return RunAs(uid=db.stat().st_uid, gid=db.stat().st_gid)
    user = _ordinary_user()
    prefix = namespace_prefix(user)
    return RunAs(prefix=prefix) if prefix else RunAs(uid=user.pw_uid, gid=user.pw_gid)


def namespace_prefix(user: pwd.struct_passwd) -> tuple[str, ...]:
    """What to put before a command so that it takes itself for `user`. Empty where that isn't allowed."""
    unshare = shutil.which("unshare")
    if unshare is None:
        return ()
    prefix = (unshare, "--user", f"--map-user={user.pw_uid}", f"--map-group={user.pw_gid}", "--")
    return prefix if _run([*prefix, "true"], RunAs()).returncode == 0 else ()


def needs_handing_over(folder: Path, run_as: RunAs) -> bool:
    """Does the server become a user to whom `folder` doesn't belong?"""
    return run_as.uid is not None and folder.stat().st_uid != run_as.uid


def hand_over(folder: Path, run_as: RunAs) -> None:
    """Give `folder` and all in it to the user that the server becomes, if it becomes one."""
    if run_as.uid is None or run_as.gid is None:
        return
    for parent, _, names in os.walk(folder, topdown=False):  # the folder last: it says that all was handed over
        for path in (*(Path(parent, name) for name in names), Path(parent)):
            os.chown(path, run_as.uid, run_as.gid, follow_symlinks=False)


def check_reach(run_as: RunAs, folder: Path, program: Path) -> None:
    """Raises DatastoreUnsuitable if the server, run so, couldn't enter `folder` or run `program`."""
    if run_as == RunAs():
        return
    test = ["/bin/sh", "-c", 'cd "$1" || exit 3; test -x "$2" || exit 4', "sh", str(folder), str(program)]
    try:
        code = _run([*run_as.prefix, *test], run_as).returncode
    except PermissionError as error:
        raise DatastoreUnsuitable(
            f"{_AS_ROOT}, and here it can neither get a user namespace nor become user {_name(run_as)} ({error}): "
            "run refitd as an ordinary user"
        ) from error
    if code != 0:
        beyond = program if code == 4 else folder
        raise DatastoreUnsuitable(
            f"{_AS_ROOT}, and {_name(run_as)} can't reach {beyond}: run refitd as an ordinary user, or let others "
            "enter that folder and those above it (chmod o+x)"
        )


def _ordinary_user() -> pwd.struct_passwd:
    for name in _ORDINARY_USERS:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise DatastoreUnsuitable(
        f"{_AS_ROOT}, and this machine has no user {', '.join(_ORDINARY_USERS)} to run it as: "
        "run refitd as an ordinary user"
    )


def _name(run_as: RunAs) -> str:
    if run_as.uid is None:
        return "root without its privileges, as whom it then runs,"
    try:
        return pwd.getpwuid(run_as.uid).pw_name
    except KeyError:
        return f"number {run_as.uid}"


def _run(command: list[str], run_as: RunAs) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        command,
        cwd="/",
        user=run_as.uid,
        group=run_as.gid,
        extra_groups=None if run_as.uid is None else [],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
