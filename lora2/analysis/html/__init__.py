"""results/report.html: one self-contained page from results/; starts without torch."""
