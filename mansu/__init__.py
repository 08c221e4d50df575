"""The engine: makes a language model forget in a way that survives NF4, and seals the evidence."""

__version__ = "0.1.0"
