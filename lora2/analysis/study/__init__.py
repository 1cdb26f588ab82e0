"""The study: its records gathered, compared, drawn, and told on one page."""
