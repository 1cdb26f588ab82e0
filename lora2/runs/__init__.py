"""A run on disk: its record, the one reader, restoring, submission, export. Imports common to models."""
