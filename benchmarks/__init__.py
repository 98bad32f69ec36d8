"""Figures as ratios to the floor (what the machine can do) or to a peer, in the same run. `make bench` runs all."""
