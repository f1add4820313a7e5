"""The publication: there, ours to change, told in full, and no harm to the user's own writes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from listener.postgres_publication import OWN, PUBLICATION
from refitd.asking import asking, connection_of, quoted, row
from refitd.checks.check import Check, bad, doubtful, good
from registry.store import Store

_OPTIONS = "publish = 'insert, update, delete, truncate', publish_via_partition_root = true"
_SHOWN = 5

# A table without a replica identity can't be updated while a publication tells its updates.
_STATE = f"""
SELECT current_user AS login, pg_get_userbyid(ours.pubowner) AS owner, pg_has_role(ours.pubowner, 'USAGE') AS owns,
    ours.puballtables AS whole,
    ours.pubinsert AND ours.pubupdate AND ours.pubdelete AND ours.pubtruncate AND ours.pubviaroot AS told,
    ARRAY(SELECT missing FROM unnest(%s::text[]) AS missing WHERE NOT ours.puballtables AND NOT EXISTS (
        SELECT FROM pg_publication_rel AS member JOIN pg_class AS this ON this.oid = member.prrelid
        JOIN pg_namespace AS space ON space.oid = this.relnamespace
        WHERE member.prpubid = ours.oid AND format('%%I.%%I', space.nspname, this.relname) = missing)) AS missing,
    ARRAY(SELECT format('%%I.%%I', space.nspname, leaf.relname) FROM pg_class AS leaf
        JOIN pg_namespace AS space ON space.oid = leaf.relnamespace
        WHERE leaf.relkind = 'r' AND leaf.relpersistence = 'p' AND leaf.oid >= 16384
            AND (ours.pubupdate OR ours.pubdelete)
            AND (ours.puballtables OR leaf.relnamespace IN (
                SELECT pnnspid FROM pg_publication_namespace WHERE pnpubid = ours.oid) OR EXISTS (
                SELECT FROM pg_publication_rel AS member WHERE member.prpubid = ours.oid AND (member.prrelid = leaf.oid
                    OR leaf.relispartition AND member.prrelid IN (SELECT pg_partition_ancestors(leaf.oid)))))
            AND NOT CASE leaf.relreplident
                WHEN 'f' THEN true
                WHEN 'd' THEN EXISTS (SELECT FROM pg_index WHERE indrelid = leaf.oid AND indisprimary)
                WHEN 'i' THEN EXISTS (SELECT FROM pg_index WHERE indrelid = leaf.oid AND indisreplident)
                ELSE false END
        ORDER BY 1) AS stuck
FROM pg_publication AS ours WHERE ours.pubname = '{PUBLICATION}'
"""


def publication_checks(store: Store) -> Iterator[Check]:
    """Tables in it are looked at with the relations that models select from."""
    with asking(connection_of(store)) as session:
        state = row(session, _STATE, (list(OWN),))
    if not state:
        yield good("publication", f"{PUBLICATION} is not there yet: `refitd run` makes it")
        return
    yield _own(state)
    yield from _harm(state)


def _own(state: Mapping[str, Any]) -> Check:
    wrong, fixes = [], []
    if not state["told"]:
        wrong.append("doesn't tell every kind of change, or tells partitions one by one")
        fixes.append(f"ALTER PUBLICATION {PUBLICATION} SET ({_OPTIONS})")
    if state["missing"]:
        wrong.append(f"lacks {', '.join(state['missing'])}")
        fixes.append(f"ALTER PUBLICATION {PUBLICATION} ADD TABLE {', '.join(state['missing'])}")
    if wrong and state["owns"] and state["told"]:
        return good("publication", f"{PUBLICATION} {wrong[0]}: `refitd run` adds them")
    if wrong and state["owns"]:
        fix = f"`refitd run` mends it; or {'; '.join(fixes)}"
        return doubtful("publication", f"{PUBLICATION} {' and '.join(wrong)}", fix)
    if wrong:
        said = f"{PUBLICATION} {' and '.join(wrong)}, and {state['login']} doesn't own it"
        return bad("publication", said, f"as {state['owner']}: {'; '.join(fixes)}")
    if not state["owns"] and not state["whole"]:
        fix = f"ALTER PUBLICATION {PUBLICATION} OWNER TO {quoted(state['login'])}; or add tables to it by hand"
        return doubtful("publication", f"{PUBLICATION} is {state['owner']}'s: the daemon can't add tables to it", fix)
    return good("publication", f"{PUBLICATION}, of {'all tables' if state['whole'] else state['owner']}")


def _harm(state: Mapping[str, Any]) -> Iterator[Check]:
    stuck = state["stuck"]
    if not stuck:
        return
    fix = "; ".join(f"ALTER TABLE {name} REPLICA IDENTITY FULL" for name in stuck[:_SHOWN])
    if not state["whole"]:
        fix += f"; or take them out: ALTER PUBLICATION {PUBLICATION} DROP TABLE …"
    more = f" and {len(stuck) - _SHOWN} more" if len(stuck) > _SHOWN else ""
    yield bad(
        "published tables",
        f"{', '.join(stuck[:_SHOWN])}{more} are in {PUBLICATION} without primary key or replica identity: PostgreSQL "
        "refuses every UPDATE and DELETE of their rows, whoever runs it",
        f"{fix}; a primary key is better",
    )
