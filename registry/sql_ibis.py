"""Ibis expressions as selects: turned into SQL, which is checked like any other."""

from __future__ import annotations

from typing import Any

from registry.errors import DocumentInvalid, Fault


def is_ibis(value: object) -> bool:
    """Whether this is an Ibis expression. Does not import ibis."""
    return any(each.__module__.split(".")[:2] == ["ibis", "expr"] for each in type(value).__mro__)


def ibis_sql(expr: Any) -> str:
    """The PostgreSQL SQL of an Ibis table expression, bound to a connection or not.

    Raises `DocumentInvalid` where it is no table, or has something that PostgreSQL hasn't.
    """
    import ibis
    from ibis.common.exceptions import IbisError

    if not isinstance(expr, ibis.expr.types.Table):
        kind = type(expr).__name__
        raise DocumentInvalid(
            [Fault("", f"is an Ibis {kind} and no table; select columns of a table: table.select(…)")]
        )
    try:
        return str(ibis.to_sql(expr, dialect="postgres"))
    except (IbisError, NotImplementedError, TypeError, ValueError) as error:
        said = (str(error).splitlines() or [type(error).__name__])[0][:300]
        message = f"can't be written as SQL for PostgreSQL: {said}; write that part another way, or the select as SQL"
        raise DocumentInvalid([Fault("", message)]) from error
