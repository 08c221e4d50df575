"""The exact finish on the lattice: swaps, polish, and the smallest change that does as well."""
