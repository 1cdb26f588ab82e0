"""Backbones, their weights, and the methods behind one Protocol. Imports common, core, glue, config."""
