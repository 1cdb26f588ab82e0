"""Errors, files, terminal, environment, provenance, rendering: knows nothing of the project and imports none of it."""
