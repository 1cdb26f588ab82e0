"""results/ to tables, claims, figures and pages. Imports common, core, glue, runs; never torch."""
