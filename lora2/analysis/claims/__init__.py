"""The claims audit."""
