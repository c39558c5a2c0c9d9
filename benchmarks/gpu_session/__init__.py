"""A session on one GPU: what a bare machine with torch can measure in 25 minutes, as records of the suite."""
