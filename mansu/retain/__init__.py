"""What an edit must leave alone: the null space of the retain activations, and the diagonal Fisher."""
