-- The least that refitd needs, as two roles; run once in the database that holds the rows, by a superuser or by whoever may
-- make roles with REPLICATION (clouds have a role for that):
--
--     psql "postgresql://ADMIN@HOST/DATABASE" -v ON_ERROR_STOP=1 -f deploy/postgres/role.sql
--     psql "postgresql://ADMIN@HOST/DATABASE" -c '\password refitd'
--
-- refitd is the daemon's login, and that of fits. It owns the schema refitd, where the registry lies, and the publication
-- refitd, which says whose changes PostgreSQL tells. It may follow changes, and has no right on your tables of its own.
-- refitd_reader is what models' selects run as: it reads the tables that you grant it, writes nothing, and follows nothing.
-- Another name for the login: -v login=NAME. The reader's name is fixed.

\if :{?login}
\else
  \set login refitd
\endif

BEGIN;

CREATE ROLE refitd_reader NOLOGIN;
CREATE ROLE :"login" LOGIN REPLICATION;
GRANT refitd_reader TO :"login";
GRANT CONNECT ON DATABASE :"DBNAME" TO :"login";

-- With these two there already, the login needs no CREATE on the database.
CREATE SCHEMA refitd AUTHORIZATION :"login";
CREATE PUBLICATION refitd WITH (publish = 'insert, update, delete, truncate', publish_via_partition_root = true);
ALTER PUBLICATION refitd OWNER TO :"login";

COMMIT;

-- Then, for each table that models select from. Its owner:
--
--     GRANT USAGE ON SCHEMA public TO refitd_reader;
--     GRANT SELECT ON public.customers TO refitd_reader;
--     ALTER TABLE public.customers REPLICA IDENTITY FULL;     -- optional: see README.md beside this file
--
-- and, because only somebody who owns both may add a table to a publication, a superuser:
--
--     ALTER PUBLICATION refitd ADD TABLE ONLY public.customers;
--
-- Or let the daemon add tables by itself. It may then also write their rows, as their owner may:
--
--     GRANT shop_owner TO refitd;
--
-- For people who add models from psql or any driver, after the daemon's first start. They may thereby learn what is in any table
-- that refitd_reader reads, by training on it. (`refitd add` and `refitd status` want the daemon's login: they also look at the rest of
-- the registry.)
--
--     CREATE ROLE refitd_models NOLOGIN;
--     GRANT USAGE ON SCHEMA refitd TO refitd_models;
--     GRANT SELECT, INSERT (id, spec), UPDATE (id, spec), DELETE ON refitd.models TO refitd_models;
--
-- Optional: with it `refitd doctor` sees whose open transactions hold up a new slot.
--
--     GRANT pg_read_all_stats TO refitd;
