"""Benchmarks, each against the bare driver in the same run: `python -m bench [NAME…] [--quick]`."""
