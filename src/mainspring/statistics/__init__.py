"""Metrics, intervals and tests that stay valid however often they are read: pure functions over arrays, no I/O."""
