"""The demo: SmolLM2-135M-Instruct forgets the world's capitals and keeps everything else."""

from mansu.demo.sets import build_forget_set, build_retain_set, write_sets

__all__ = ["build_forget_set", "build_retain_set", "write_sets"]
