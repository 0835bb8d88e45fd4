"""Measuring models against other engines: what `bolt bench`, `benchmarks/` and the demo share."""
