"""Measuring models against other engines: what `bolt bench`, `benchmarks/` and the demo share."""

from bolt.bench.run import bench

__all__ = ["bench"]
