"""Folders as bytes and back: an uncompressed tar whose bytes follow from the files' alone. Never a pickle.

Unpacking trusts nothing that an archive says but the names and contents of regular files.
"""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from registry.errors import ArtifactCorrupt, Untrusted

_NAME = re.compile(r"[A-Za-z0-9][\w.+-]{0,200}")


def pack(files: Mapping[str, Path | bytes]) -> bytes:
    """An archive of these files, by their names in it."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name in sorted(files):
            given = files[name]
            info = tarfile.TarInfo(name)
            info.mode = 0o644
            if isinstance(given, bytes):
                info.size = len(given)
                archive.addfile(info, io.BytesIO(given))
                continue
            info.size = given.stat().st_size
            with given.open("rb") as file:
                archive.addfile(info, file)
    return out.getvalue()


def unpack(data: bytes, folder: Path, allowed: Callable[[str], bool], depth: int = 1) -> None:
    """Write the files of an archive into a folder that is there.

    Args:
        allowed: whether a file's last name is one that may be written.
        depth: of how many parts a name may consist.

    Raises:
        Untrusted: it holds anything but regular files of allowed names that stay in the folder; nothing is written.
        ArtifactCorrupt: it is no archive.
    """
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
            members = archive.getmembers()
            _judge(members, allowed, depth)
            for member in members:
                file = archive.extractfile(member)
                assert file is not None, "it is a regular file"
                target = folder / member.name
                target.parent.mkdir(parents=True, exist_ok=True)
                with file, target.open("wb") as out:
                    while part := file.read(1 << 20):
                        out.write(part)
    except (tarfile.TarError, EOFError, ValueError) as error:
        raise ArtifactCorrupt(f"the artifact can't be read ({type(error).__name__}: {error}); retrain") from error


def _judge(members: Iterable[tarfile.TarInfo], allowed: Callable[[str], bool], depth: int) -> None:
    seen = set()
    for member in members:
        parts = member.name.split("/")
        plain = member.isreg() and not member.issparse() and len(parts) <= depth
        if not plain or not all(_NAME.fullmatch(part) for part in parts) or not allowed(parts[-1]):
            raise Untrusted(
                f"the artifact holds {member.name!r:.200}, which no stored model has need of; nothing of it was loaded"
            )
        if member.name.lower() in seen:
            raise Untrusted(f"the artifact holds {member.name!r:.200} twice; nothing of it was loaded")
        seen.add(member.name.lower())
