"""The store: sessions, migrations and named queries on Postgres. The only room that knows psycopg."""
