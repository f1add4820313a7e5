"""What `registry.store.Artifacts` promises, in the datastore and under a URL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from gridfs import GridFSBucket

from registry.artifacts import digest_of
from registry.errors import ArtifactCorrupt, NotFound
from registry.mongo.store import MongoStore
from registry.postgres.store import PostgresStore
from registry.store import Artifacts, Store
from registry.stores import open_store
from tests.fixtures.stores import STORES, store_uri

Damage = Callable[[str], None]


@pytest.fixture(params=[*STORES, "file"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Artifacts, Damage]]:
    if request.param == "file":
        folder = tmp_path / "artifacts"
        # A store connects when its datastore is used: not for artifacts that lie elsewhere.
        store = open_store("mongodb://127.0.0.1:1/unused", artifacts_url=folder.as_uri())
        yield store.artifacts, lambda digest: _write_other(folder / digest)
        store.close()
        return
    with store_uri(request) as uri:
        store = open_store(uri)
        store.prepare()
        yield store.artifacts, lambda digest: _damage(store, digest)
        store.close()


def _write_other(path: Path) -> None:
    path.write_bytes(b"other")


def _damage(store: Store, digest: str) -> None:
    if isinstance(store, PostgresStore):
        store.connection.run("UPDATE refitd.artifact_chunks SET data = %s WHERE digest = %s", (b"other", digest))
        return
    assert isinstance(store, MongoStore)
    chunks = store.connection.collection("artifacts.chunks")
    chunks.update_one({"files_id": digest}, {"$set": {"data": b"other"}})


@pytest.mark.parametrize("data", [b"", b"small", bytes(3_000_000)])
def test_bytes_come_back_under_their_digest(place: tuple[Artifacts, Damage], data: bytes) -> None:
    artifacts, _ = place
    digest = artifacts.put(data)
    assert digest == artifacts.put(data) == digest_of(data)
    assert artifacts.get(digest) == data
    assert artifacts.all() == {digest: len(data)}


def test_damaged_bytes_are_not_given_out(place: tuple[Artifacts, Damage]) -> None:
    artifacts, damage = place
    digest = artifacts.put(b"right")
    damage(digest)
    with pytest.raises(ArtifactCorrupt, match="digest"):
        artifacts.get(digest)


def test_removed_means_gone(place: tuple[Artifacts, Damage]) -> None:
    artifacts, _ = place
    digest = artifacts.put(b"x")
    artifacts.remove(digest)
    artifacts.remove(digest)
    with pytest.raises(NotFound):
        artifacts.get(digest)


def test_what_a_killed_upload_left_is_replaced(mongo_uri: str, mongo: Any) -> None:
    store = open_store(mongo_uri)
    data = bytes(600_000)
    bucket = GridFSBucket(mongo, bucket_name="refitd.artifacts")
    bucket.upload_from_stream_with_id(digest_of(data), "x", data)
    mongo["refitd.artifacts.files"].delete_many({})
    assert store.artifacts.get(store.artifacts.put(data)) == data
    store.close()
