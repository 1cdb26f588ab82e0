"""Live logging beside the record."""
