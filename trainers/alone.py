"""What a document may not ask of a trainer that works in one process."""

from __future__ import annotations

from collections.abc import Iterator

from registry.document import ModelDocument
from registry.errors import Fault


def alone(document: ModelDocument) -> Iterator[Fault]:
    """A fault where several processes are asked for."""
    if document.resources.num_workers > 1:
        yield Fault(
            "resources.num_workers",
            "this release trains in one process; ask for more of a machine with resources.num_cpus and num_gpus",
        )
