"""Behaviour, measured: the held-out probes, models as they are deployed, and the axes of a verdict."""
