"""Quantizers that a model may be deployed with, each bit for bit as its reference library computes it."""

from mansu.bench.quantizers.apply import Deployed, Proof, quantized
from mansu.bench.quantizers.registry import FORMATS, QUANTIZERS, find

__all__ = ["FORMATS", "QUANTIZERS", "Deployed", "Proof", "find", "quantized"]
