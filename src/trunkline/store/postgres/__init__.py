"""The store for several platform processes: one PostgreSQL database."""
