"""What one could use instead of mansu, on the same data: dense gradient methods, exported as certificates are."""

from mansu.baselines.export import export
from mansu.baselines.gradient import METHODS, Baseline, run_baseline

__all__ = ["METHODS", "Baseline", "export", "run_baseline"]
