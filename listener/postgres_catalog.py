"""What PostgreSQL's catalogs say of the relations that selects read: what they are, and whether they were altered.

The log tells of rows. It tells nothing of a rewritten or attached table, of a view made anew, or of a table that was
out of the publication for a while; so each relation has a fingerprint of all that, and whoever looks again sees a
change. https://www.postgresql.org/docs/current/catalogs.html
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

#: Why PostgreSQL can't tell the changes of these kinds of relations (`pg_class.relkind`).
_KINDS = {"m": "is a materialized view", "f": "is a foreign table", "t": "is a TOAST table", "S": "is a sequence"}
_VIEW = "v"
#: Tables, partitioned ones among them.
TABLES = ("r", "p")


@dataclass(frozen=True, slots=True)
class Relation:
    """One relation as the catalogs have it.

    `name` is what `format('%I.%I')` makes of it; `schema` and `table` are the bare names. `identified`: updates and
    deletes of its rows can be published, it has a replica identity. `root`: the partitioned table that it is a part of.
    `published`: the oid of what puts it into the publication; None: nothing does. `partial`: not all of it is there.
    `primary` are the columns of its primary key, `columns` those that are told: the server computes others from them.
    """

    name: str
    oid: int
    schema: str
    table: str
    kind: str
    logged: bool
    identified: bool
    identity: str
    root: str | None
    published: int | None
    partial: bool
    primary: tuple[str, ...]
    columns: frozenset[str]
    fingerprint: str

    @property
    def is_view(self) -> bool:
        """Whether it is nothing but a select on others."""
        return self.kind == _VIEW

    @property
    def untold(self) -> str | None:
        """Why its changes can't be followed, with the fix; None when they can."""
        schedule = "set retrain.schedule, and retrain.on_change to false"
        if self.kind in _KINDS:
            return f"`{self.name}` {_KINDS[self.kind]}, and PostgreSQL tells no changes of those; {schedule}"
        if not self.logged:
            fix = f"ALTER TABLE {self.name} SET LOGGED"
            return f"`{self.name}` is unlogged, so PostgreSQL's log tells no changes of it: {fix}; or {schedule}"
        if self.kind in TABLES and not self.identified:
            return (
                f"`{self.name}` has neither a primary key nor a replica identity: following it would make PostgreSQL "
                f"refuse updates and deletes of its rows. ALTER TABLE {self.name} ADD PRIMARY KEY (…), or ALTER TABLE "
                f"{self.name} REPLICA IDENTITY FULL; or {schedule}"
            )
        if self.partial:
            return (
                f"`{self.name}` is in the publication with a row filter or a column list, so not all its changes are "
                f"told: ALTER PUBLICATION refitd SET TABLE … without them, or DROP TABLE {self.name} from it"
            )
        return None


@dataclass(frozen=True, slots=True)
class Found:
    """The relations behind each name that a select may write; none behind a name that is nobody's yet."""

    behind: dict[str, tuple[Relation, ...]]

    def relations(self) -> dict[str, Relation]:
        """All of them, by name."""
        return {one.name: one for some in self.behind.values() for one in some}


class Rows(Protocol):
    """Runs one statement and gives its rows."""

    def __call__(self, statement: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        """Raises `DatastoreUnavailable` or `DatastoreUnsuitable`."""


def look(rows: Rows, names: Collection[str], publication: str) -> Found:
    """What is behind these names now: for a table itself (a partition's root too, and tables that inherit from it), for
    a view itself and all that it is made of. The relation that the name means comes first."""
    if not names:
        return Found({})
    behind: dict[str, list[Relation]] = {name: [] for name in names}
    for name, *row in rows(_LOOK, (list(names), publication)):
        behind[name].append(_relation(row))
    return Found({name: tuple(_without_twins(some)) for name, some in behind.items()})


def _relation(row: Sequence[Any]) -> Relation:
    name, oid, schema, table, kind, logged, identified, identity, root, published, partial, *rest = row
    primary, columns, fingerprint = rest
    return Relation(
        name, oid, schema, table, kind, logged, identified, identity, root, published, partial,
        tuple(primary or ()), frozenset(columns or ()), fingerprint,
    )  # fmt: skip


def _without_twins(some: Iterable[Relation]) -> list[Relation]:
    return list({one.oid: one for one in some}.values())


# `made_of` leads from a view to what its rule reads, from a table to those that inherit from it, and from a partition
# to its root: with publish_via_partition_root, changes of partitions are told as the root's.
_LOOK = """
WITH RECURSIVE made_of (outer_oid, inner_oid) AS MATERIALIZED (
    SELECT rule.ev_class, part.refobjid
    FROM pg_catalog.pg_rewrite AS rule
    JOIN pg_catalog.pg_depend AS part ON part.classid = 'pg_catalog.pg_rewrite'::regclass AND part.objid = rule.oid
    WHERE part.refclassid = 'pg_catalog.pg_class'::regclass AND part.refobjid <> rule.ev_class
        AND rule.ev_class >= 16384
    UNION
    SELECT child.inhparent, child.inhrelid
    FROM pg_catalog.pg_inherits AS child
    JOIN pg_catalog.pg_class AS parent ON parent.oid = child.inhparent AND parent.relkind = 'r'
    UNION
    SELECT part.oid, pg_catalog.pg_partition_root(part.oid)
    FROM pg_catalog.pg_class AS part
    WHERE part.relispartition AND part.relkind IN ('r', 'p')
),
behind (asked, oid, depth) AS (
    SELECT asked, pg_catalog.to_regclass(asked)::oid, 0
    FROM unnest(%s::text[]) AS asked
    WHERE pg_catalog.to_regclass(asked) IS NOT NULL
    UNION
    SELECT behind.asked, made_of.inner_oid, behind.depth + 1
    FROM behind JOIN made_of ON made_of.outer_oid = behind.oid
    WHERE behind.depth < 32
),
-- Not pg_partition_tree, nor pg_get_viewdef: they wait for locks, which somebody may hold for long.
parts (whole, oid) AS (
    SELECT oid, oid FROM behind
    UNION
    SELECT parts.whole, child.inhrelid
    FROM parts
    JOIN pg_catalog.pg_inherits AS child ON child.inhparent = parts.oid
    JOIN pg_catalog.pg_class AS part ON part.oid = child.inhrelid AND part.relispartition
)
SELECT behind.asked, format('%%I.%%I', space.nspname, this.relname), this.oid::int8, space.nspname, this.relname,
    this.relkind::text, this.relpersistence = 'p', leaves.identified, this.relreplident::text,
    CASE WHEN this.relispartition THEN (
        SELECT format('%%I.%%I', its.nspname, root.relname)
        FROM pg_catalog.pg_class AS root JOIN pg_catalog.pg_namespace AS its ON its.oid = root.relnamespace
        WHERE root.oid = pg_catalog.pg_partition_root(this.oid)
    ) END,
    member.oid::int8, member.partial, (
        SELECT array_agg(part.attname::text ORDER BY place.at)
        FROM pg_catalog.pg_index AS one, unnest(one.indkey) WITH ORDINALITY AS place (attnum, at)
        JOIN pg_catalog.pg_attribute AS part ON part.attnum = place.attnum
        WHERE one.indrelid = this.oid AND one.indisprimary AND part.attrelid = this.oid
    ),
    columns.names,
    left(md5(concat_ws('|', this.oid, this.relkind, this.relpersistence, member.oid, member.partial,
        leaves.told, columns.told, (
            SELECT md5(string_agg(rule.ev_action::text, '|' ORDER BY rule.oid))
            FROM pg_catalog.pg_rewrite AS rule WHERE rule.ev_class = this.oid
        ))), 12)
FROM behind
JOIN pg_catalog.pg_class AS this ON this.oid = behind.oid
JOIN pg_catalog.pg_namespace AS space ON space.oid = this.relnamespace
CROSS JOIN LATERAL (
    SELECT min(coalesce(one.oid, whole.oid, ours.oid))
            FILTER (WHERE ours.puballtables OR one.oid > 0 OR whole.oid > 0) AS oid,
        coalesce(bool_or(one.prqual IS NOT NULL OR one.prattrs IS NOT NULL), false) AS partial
    FROM pg_catalog.pg_publication AS ours
    LEFT JOIN pg_catalog.pg_publication_rel AS one ON one.prpubid = ours.oid AND one.prrelid = this.oid
    LEFT JOIN pg_catalog.pg_publication_namespace AS whole
        ON whole.pnpubid = ours.oid AND whole.pnnspid = this.relnamespace
    WHERE ours.pubname = %s
) AS member
CROSS JOIN LATERAL (
    SELECT bool_and(CASE leaf.relreplident
            WHEN 'f' THEN true
            WHEN 'd' THEN EXISTS (SELECT FROM pg_catalog.pg_index WHERE indrelid = leaf.oid AND indisprimary)
            WHEN 'i' THEN EXISTS (SELECT FROM pg_catalog.pg_index WHERE indrelid = leaf.oid AND indisreplident)
            ELSE false END) AS identified,
        string_agg(concat_ws(':', leaf.oid, pg_catalog.pg_relation_filenode(leaf.oid)), ',' ORDER BY leaf.oid) AS told
    FROM parts JOIN pg_catalog.pg_class AS leaf ON leaf.oid = parts.oid
    WHERE parts.whole = this.oid
) AS leaves
CROSS JOIN LATERAL (
    SELECT string_agg(concat_ws(':', attnum, attname, atttypid, atttypmod, attcollation, attgenerated, (
            SELECT string_agg(enumlabel, ',' ORDER BY enumsortorder) FROM pg_catalog.pg_enum WHERE enumtypid = atttypid
        )), ',' ORDER BY attnum) AS told,
        array_agg(attname::text) FILTER (WHERE attgenerated = '') AS names
    FROM pg_catalog.pg_attribute
    WHERE attrelid = this.oid AND attnum > 0 AND NOT attisdropped
) AS columns
ORDER BY behind.asked, behind.depth, this.oid
"""
