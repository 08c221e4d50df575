"""The solver: masked training against the objective, progressive snapping, and the exact finish (docs/solver.md)."""
