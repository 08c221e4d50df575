"""Certification reports: they render a `verify.contract` result and compute nothing."""
