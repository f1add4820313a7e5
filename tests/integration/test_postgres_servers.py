"""The session's PostgreSQL servers, and what a test leaves behind on them: nothing."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from psycopg import pq, sql

from tests.fixtures.postgres import PostgresServer, drop_database

Connection = psycopg.Connection[tuple[Any, ...]]


def shown(connection: Connection, setting: str) -> str:
    row = connection.execute("SELECT current_setting(%s)", [setting]).fetchone()
    assert row is not None
    return str(row[0])


def test_each_test_has_a_database_of_its_own_on_both_servers(
    pg: Connection, postgres: PostgresServer, request: pytest.FixtureRequest
) -> None:
    assert pg.info.dbname.startswith("test_each_test_has_a_database")
    assert pg.execute("SELECT FROM information_schema.tables WHERE table_schema = 'public'").rowcount == 0
    assert shown(pg, "wal_level") == "logical"
    assert shown(pg, "fsync") == "off"
    assert postgres.version >= 15
    if "postgresql-18" in request.node.name:
        assert postgres.version == 18


def test_a_database_is_dropped_with_its_slots_while_they_are_read(postgres: PostgresServer) -> None:
    database = "dropped_while_read"
    with psycopg.connect(postgres.uri("postgres"), autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(database)))
        with psycopg.connect(postgres.uri(database), autocommit=True) as idle:
            idle.execute("SELECT pg_create_logical_replication_slot('unused_of_dropped', 'pgoutput')")
            idle.execute("CREATE PUBLICATION everything FOR ALL TABLES")
            idle.execute("SELECT pg_create_logical_replication_slot('used_of_dropped', 'pgoutput')")
            reader = pq.PGconn.connect(f"{postgres.uri(database)}?replication=database".encode())
            begun = reader.exec_(
                b"START_REPLICATION SLOT used_of_dropped LOGICAL 0/0"
                b" (proto_version '1', publication_names 'everything')"
            )
            assert begun.status == pq.ExecStatus.COPY_BOTH
            drop_database(admin, database)
            reader.finish()
        assert admin.execute("SELECT FROM pg_database WHERE datname = %s", [database]).rowcount == 0
        assert admin.execute("SELECT FROM pg_replication_slots WHERE slot_name LIKE '%_of_dropped'").rowcount == 0
