"""The demo on MongoDB: its server, and what is written there by plain pymongo."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pymongo import MongoClient, UpdateOne

from refitd.demo_data import MODEL, Scan, specification
from refitd.embedded import EmbeddedMongo

Row = dict[str, Any]

DOCUMENT: Mapping[str, Any] = {
    "_id": MODEL,
    **specification({"collection": "scans", "filter": {"label": {"$exists": True}}}, {"collection": "held_out"}),
}


@contextmanager
def mongo_started(folder: Path) -> Iterator[MongoWriter]:
    """A MongoDB with its data in the folder."""
    server = EmbeddedMongo.start(folder / "mongo", oplog_mb=64)
    try:
        uri = server.uri("demo")
        with MongoClient[Row](uri) as client:
            yield MongoWriter(client, uri)
    finally:
        server.kill()  # nobody will read these data again


class MongoWriter:
    """See `refitd.demo_writer.Writer`."""

    def __init__(self, client: MongoClient[Row], uri: str) -> None:
        self.uri = uri
        self._database = client.get_default_database()

    def make_tables(self) -> None:
        """With kept images; `held_out` is made by its first rows, which never change."""
        self._database.create_collection("scans", changeStreamPreAndPostImages={"enabled": True})

    def insert(self, table: str, scans: Sequence[Scan]) -> None:
        """`insert_many`. A scan without a label has no such field."""
        self._database[table].insert_many([_row(one) for one in scans])

    def label(self, labels: Mapping[int, int]) -> None:
        """An update each, in one batch."""
        updates = [UpdateOne({"_id": number}, {"$set": {"label": label}}) for number, label in labels.items()]
        self._database["scans"].bulk_write(updates)

    def insert_document(self) -> None:
        """`insert_one`."""
        self._database["refitd.models"].insert_one(dict(DOCUMENT))

    def shown(self) -> Sequence[str]:
        """As Python."""
        fields = [f"    {json.dumps(name)}: {json.dumps(value)}," for name, value in DOCUMENT.items()]
        return ['db["refitd.models"].insert_one({', *fields, "})"]


def _row(scan: Scan) -> Row:
    labelled = {} if scan.label is None else {"label": scan.label}
    return {"_id": scan.number, "pixels": scan.pixels, **labelled}
