"""Who holds a lease: one process of one machine, by a name that tells whether it still lives."""

from __future__ import annotations

import os
import socket
from pathlib import Path


def this_process() -> str:
    """`host/boot/pid namespace/pid/start`: unique, and checkable from the same machine."""
    return "/".join((socket.gethostname(), *_machine(), str(os.getpid()), _started(os.getpid()) or "0"))


def is_dead(owner: str) -> bool:
    """Whether the owner is surely gone: its process was on this machine and no longer runs. False when unsure."""
    parts = owner.split("/")
    if len(parts) != 5 or (parts[0], *parts[1:3]) != (socket.gethostname(), *_machine()):
        return False
    return _started(int(parts[3])) != parts[4] if parts[3].isdigit() and parts[4] != "0" else False


def short(owner: str | None) -> str | None:
    """`host:pid`, for people."""
    parts = (owner or "").split("/")
    return f"{parts[0]}:{parts[3]}" if len(parts) == 5 else owner


def _machine() -> tuple[str, str]:
    """This boot of this kernel, and this process namespace: pids mean something only within both."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        space = str(Path("/proc/self/ns/pid").stat().st_ino)
    except OSError:
        return "-", "-"
    return boot, space


def _started(pid: int) -> str | None:
    """The process's start, in clock ticks after boot (proc(5), field 22 of stat); None when it doesn't run."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]
