"""Plugins for one machine: SQLite stores, files, a scheduler thread, an embedded nats-server."""
