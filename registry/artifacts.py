"""Artifacts under an fsspec URL: a directory, S3, or whatever else fsspec has a file system for."""

from __future__ import annotations

import hashlib
import uuid
from typing import Any

from registry.errors import ArtifactCorrupt, NotFound


def digest_of(data: bytes) -> str:
    """SHA-256, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def verified(digest: str, data: bytes, place: str) -> bytes:
    """The bytes, if they are what the digest promises.

    Raises:
        ArtifactCorrupt: they are not.
    """
    actual = digest_of(data)
    if actual != digest:
        raise ArtifactCorrupt(
            f"the artifact {digest[:12]}… in {place} holds other bytes (digest {actual[:12]}…); it was damaged or "
            "replaced, so it is not loaded; roll back to another version or fit again"
        )
    return data


class UrlArtifacts:
    """See `registry.store.Artifacts`. One file a digest; written under another name and then moved."""

    def __init__(self, url: str) -> None:
        """Raises ValueError or ImportError, from fsspec, when it has no file system for the URL."""
        import fsspec

        files, root = fsspec.core.url_to_fs(url)
        self._files: Any = files
        self._root: str = root.rstrip("/")
        self._url = url

    def put(self, data: bytes) -> str:
        """Store them; the digest. Storing the same bytes again costs nothing."""
        digest = digest_of(data)
        if not self._files.exists(self._path(digest)):
            self._files.makedirs(self._root, exist_ok=True)
            temporary = f"{self._path(digest)}.{uuid.uuid4().hex}.part"
            self._files.pipe_file(temporary, data)
            self._files.mv(temporary, self._path(digest))
        return digest

    def get(self, digest: str) -> bytes:
        """The bytes. Raises `NotFound` or `ArtifactCorrupt`."""
        try:
            data: bytes = self._files.cat_file(self._path(digest))
        except FileNotFoundError:
            raise NotFound(f"the artifact {digest[:12]}… is not in {self._url}") from None
        return verified(digest, data, self._url)

    def remove(self, digest: str) -> None:
        """Forget them, if they are there."""
        if self._files.exists(self._path(digest)):
            self._files.rm_file(self._path(digest))

    def all(self) -> dict[str, int]:
        """Digest → size in bytes."""
        if not self._files.exists(self._root):
            return {}
        names = ((entry["name"].rsplit("/", 1)[-1], entry["size"]) for entry in self._files.ls(self._root, detail=True))
        return {name: size for name, size in names if len(name) == 64}

    def _path(self, digest: str) -> str:
        return f"{self._root}/{digest}"
