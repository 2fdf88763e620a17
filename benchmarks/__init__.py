"""Measurements: ours and a baseline in one process, one JSON line each.

Run one by ``python -m benchmarks.<name> [--corpus DIR] [--json]`` or all by ``python -m benchmarks``. Times are
medians of several rounds in which ours and the baseline take turns.
"""
