"""One self-contained HTML page of a run, real or simulated, or of a sweep."""
