"""How far an edit moves what is retained: bounds with every constant, and the measured change below them.

docs/retain-bound.md states and proves them.
"""
