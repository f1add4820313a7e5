"""What all tests share: markers by folder, quick tests first, and the servers of tests/fixtures/."""

from __future__ import annotations

from pathlib import Path

import hypothesis
import pytest

# Whether a test passes must not depend on how busy the machine is.
hypothesis.settings.register_profile("refitd", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("refitd")

pytest_plugins = ["tests.fixtures.servers", "tests.fixtures.postgres"]

# The order they run in: what fails quickly fails first.
KINDS = ("unit", "contract", "integration", "acceptance", "chaos")

_HERE = Path(__file__).parent


def _kind(item: pytest.Item) -> str | None:
    folder = item.path.relative_to(_HERE).parts[0]
    return folder if folder in KINDS else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test with its folder's name, and sort by it."""
    for item in items:
        kind = _kind(item)
        if kind is not None:
            item.add_marker(kind)
    items.sort(key=lambda item: KINDS.index(_kind(item) or KINDS[-1]))
