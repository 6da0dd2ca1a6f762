"""Run by alembic: migrates on the connection that `schema.migrate` hands over."""

from alembic import context

# Batch mode, because SQLite alters a table by copying it.
context.configure(connection=context.config.attributes["connection"], render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
