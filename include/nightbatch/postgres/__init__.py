"""The store: migrations, named queries, and a Postgres server to run them on. The only room that knows psycopg."""
