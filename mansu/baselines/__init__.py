"""What one could use instead of mansu, on the same data: dense gradient methods, exported as certificates are."""

from mansu.baselines.export import export
from mansu.baselines.gradient import METHODS, Baseline, answer_log_probabilities, baseline_loss, run_baseline

__all__ = ["METHODS", "Baseline", "answer_log_probabilities", "baseline_loss", "export", "run_baseline"]
