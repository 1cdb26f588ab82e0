"""One run, from settings to record. Imports common to runs."""
