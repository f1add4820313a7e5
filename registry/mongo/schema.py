"""Our collections, their indexes, and the validator of `refitd.models`."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from pymongo import IndexModel
from pymongo.errors import CollectionInvalid, OperationFailure

from registry.document import ModelDocument
from registry.mongo.connection import PREFIX, Connection

#: Counts up when a release changes what rows mean; stored in `refitd.meta`.
SCHEMA_VERSION = 1

#: The server forgets what a fit printed, and later the fit, by itself; its version stays.
_LOGS_KEPT_S = 30 * 86400
_FITS_KEPT_S = 365 * 86400

_INDEXES: dict[str, list[IndexModel]] = {
    "models": [],
    "pending": [],
    "feeds": [],
    "fits": [
        IndexModel([("model", 1), ("_id", -1)]),
        IndexModel("state"),
        IndexModel("finished", expireAfterSeconds=_FITS_KEPT_S),
    ],
    "versions": [
        IndexModel([("model", 1), ("number", -1)], unique=True),
        IndexModel([("model", 1), ("draft.promoted", 1), ("number", -1)]),
        IndexModel("draft.digest"),
        IndexModel("fit", unique=True),
    ],
    "logs": [IndexModel([("fit", 1), ("n", 1)]), IndexModel("at", expireAfterSeconds=_LOGS_KEPT_S)],
    "meta": [],
}


def prepare(connection: Connection) -> None:
    """Make what is missing. Idempotent; two daemons may do it at once."""
    database = connection.database
    present = set(database.list_collection_names())
    for name, indexes in _INDEXES.items():
        if PREFIX + name not in present:
            with suppress(CollectionInvalid):  # another daemon was faster
                database.create_collection(PREFIX + name)
        if indexes:
            database[PREFIX + name].create_indexes(indexes)
    with suppress(OperationFailure):  # a login that may only read and write: the validator only warns anyway
        database.command("collMod", PREFIX + "models", **_validator())
    database[PREFIX + "meta"].update_one({"_id": "schema"}, {"$setOnInsert": {"version": SCHEMA_VERSION}}, upsert=True)


def _validator() -> dict[str, Any]:
    """The gross shape, as a warning in the server's log: a faulty document must get in to be told so in `status`."""
    properties = ModelDocument.model_json_schema(by_alias=True)["properties"]
    shape = {
        "bsonType": "object",
        "required": ["_id", "trainer", "object", "training_select", "train_X"],
        "properties": {
            "_id": {"bsonType": "string", "description": properties["_id"]["description"]},
            "trainer": {"bsonType": "string", "description": properties["trainer"]["description"]},
            "object": {"bsonType": "object", "description": properties["object"]["description"]},
            "training_select": {"bsonType": ["object", "string"]},
            "train_X": {"bsonType": ["string", "array"]},
            "paused": {"bsonType": "bool"},
        },
    }
    return {"validator": {"$jsonSchema": shape}, "validationLevel": "moderate", "validationAction": "warn"}
