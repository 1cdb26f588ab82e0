"""YAML to one validated RunConfig, and the name of a run. Imports common, core, glue."""
