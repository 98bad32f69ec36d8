"""Watches what is served: service, drift, performance on matured labels. What to do about it is `loop/policy.py`'s."""
