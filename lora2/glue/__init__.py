"""The data side of GLUE: task table, raw data, token cache, batches, metrics, submission. Imports common, core."""
