"""Benchmarks on trained models; see README.md. Run from the repository: `python -m benchmarks models`."""
