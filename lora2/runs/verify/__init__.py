"""A run's dev score, re-derived by stock libraries in a process without this project's code."""
