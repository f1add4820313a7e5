"""Artifacts in GridFS, in the bucket `refitd.artifacts`; a file's `_id` is its digest."""

from __future__ import annotations

from gridfs import GridFSBucket
from gridfs.errors import FileExists, NoFile

from registry.artifacts import digest_of, verified
from registry.errors import NotFound
from registry.mongo.connection import PREFIX, Connection, translated


class MongoArtifacts:
    """See `registry.store.Artifacts`."""

    def __init__(self, connection: Connection) -> None:
        self._bucket = GridFSBucket(connection.database, bucket_name=f"{PREFIX}artifacts")
        self._files = connection.collection("artifacts.files")

    @translated
    def put(self, data: bytes) -> str:
        """Store them; the digest. Storing the same bytes again costs nothing."""
        digest = digest_of(data)
        if self._stored(digest):
            return digest
        try:
            self._bucket.upload_from_stream_with_id(digest, digest, data)
        except FileExists:
            # Chunks without a file are what a killed upload leaves; with one, somebody else was faster.
            if not self._stored(digest):
                self.remove(digest)
                self._bucket.upload_from_stream_with_id(digest, digest, data)
        return digest

    @translated
    def get(self, digest: str) -> bytes:
        """The bytes. Raises `NotFound` or `ArtifactCorrupt`."""
        try:
            with self._bucket.open_download_stream(digest) as stream:
                data: bytes = stream.read()
        except NoFile:
            raise NotFound(f"the artifact {digest[:12]}… is not in this datastore") from None
        return verified(digest, data, "GridFS")

    @translated
    def remove(self, digest: str) -> None:
        """Forget them, if they are there, and what a killed upload left of them."""
        try:
            self._bucket.delete(digest)  # drops the chunks even when there is no file
        except NoFile:
            return

    @translated
    def all(self) -> dict[str, int]:
        """Digest → size in bytes."""
        return {row["_id"]: row["length"] for row in self._files.find({}, {"length": 1})}

    def _stored(self, digest: str) -> bool:
        return self._files.count_documents({"_id": digest}, limit=1) == 1
