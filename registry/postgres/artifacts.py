"""Artifacts in `refitd.artifacts`, their bytes in pieces of 1 MB in `refitd.artifact_chunks`."""

from __future__ import annotations

from registry.artifacts import digest_of, verified
from registry.errors import NotFound
from registry.postgres.connection import Connection
from registry.postgres.session import Session

#: Bytes a row.
CHUNK = 1 << 20


class PostgresArtifacts:
    """See `registry.store.Artifacts`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def put(self, data: bytes) -> str:
        """Store them; the digest. Storing the same bytes again costs nothing."""
        digest = digest_of(data)
        if self._connection.row("SELECT 1 FROM refitd.artifacts WHERE digest = %s", (digest,)):
            return digest
        view = memoryview(data)

        def store(session: Session) -> None:
            for n, start in enumerate(range(0, len(data), CHUNK)):
                session.send(
                    "INSERT INTO refitd.artifact_chunks VALUES (%s, %s, %b) ON CONFLICT DO NOTHING",
                    (digest, n, view[start : start + CHUNK]),
                )
            session.send(
                "INSERT INTO refitd.artifacts (digest, size) VALUES (%s, %s) ON CONFLICT DO NOTHING",
                (digest, len(data)),
            )

        self._connection.transaction(store)
        return digest

    def get(self, digest: str) -> bytes:
        """The bytes. Raises `NotFound` or `ArtifactCorrupt`."""
        data, found = bytearray(), False
        query = (
            "SELECT chunk.data FROM refitd.artifacts AS whole LEFT JOIN refitd.artifact_chunks AS chunk USING (digest)"
            " WHERE whole.digest = %s ORDER BY chunk.n"
        )
        with self._connection.session() as session, session.connection.cursor(binary=True) as cursor:
            for row in cursor.stream(query, (digest,)):
                found = True
                data += row["data"] or b""
        if not found:
            raise NotFound(f"the artifact {digest[:12]}… is not in this datastore")
        return verified(digest, bytes(data), "PostgreSQL")

    def remove(self, digest: str) -> None:
        """Forget them, if they are there."""

        def forget(session: Session) -> None:
            session.send("DELETE FROM refitd.artifacts WHERE digest = %s", (digest,))
            session.send("DELETE FROM refitd.artifact_chunks WHERE digest = %s", (digest,))

        self._connection.transaction(forget)

    def all(self) -> dict[str, int]:
        """Digest → size in bytes."""
        return {
            row["digest"]: row["size"] for row in self._connection.rows("SELECT digest, size FROM refitd.artifacts")
        }
