"""Cron expressions: five fields, in UTC, with cron's own numbering of weekdays (0 and 7 are Sunday).

APScheduler's `CronTrigger.from_crontab` counts weekdays from Monday, so their numbers are turned into
names before it sees them.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from apscheduler.triggers.cron import CronTrigger

_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")


def next_due(expression: str, after: datetime) -> datetime | None:
    """The first time strictly after `after` (UTC) that the expression names; None if there is none.

    Raises:
        ValueError: it is not a five-field cron expression.
    """
    trigger = _trigger(expression)
    due: datetime | None = trigger.get_next_fire_time(None, after + timedelta(microseconds=1))
    return due.astimezone(UTC) if due else None


def check_schedule(expression: str) -> str:
    """The expression itself, when it is one.

    Raises:
        ValueError: it is not, with APScheduler's own words; or it names a day that never comes.
    """
    if next_due(expression, datetime.now(UTC)) is None:
        raise ValueError(f"{expression!r} never comes: no month has such a day")
    return expression


@lru_cache(maxsize=1024)
def _trigger(expression: str) -> CronTrigger:
    from apscheduler.triggers.cron import CronTrigger

    fields = expression.split()
    if len(fields) != 5:
        raise ValueError(
            f"a schedule has five fields (minute hour day month weekday, in UTC), {expression!r} has {len(fields)}"
        )
    fields[4] = _name_weekdays(fields[4])
    try:
        return CronTrigger.from_crontab(" ".join(fields), timezone=UTC)
    except ValueError as error:
        raise ValueError(f"{expression!r} is no cron expression: {error}") from None


def _name_weekdays(field: str) -> str:
    """`1-5` → `mon,tue,wed,thu,fri`; names, `*` and `*/n` stay."""
    return ",".join(_name_weekday_part(part) for part in field.split(","))


def _name_weekday_part(part: str) -> str:
    found = re.fullmatch(r"([0-7])(?:-([0-7]))?(?:/(\d+))?", part)
    if not found:
        return part
    first, last, step = int(found[1]), found[2], int(found[3] or 1)
    end = int(last) if last is not None else (6 if found[3] else first)
    if end < first or step < 1:
        raise ValueError(f"the weekdays {part!r} run backwards; write them as a list, e.g. 5,6,0")
    return ",".join(_WEEKDAYS[day % 7] for day in range(first, end + 1, step))
