"""A second device in software, so that a tensor left on the wrong one is found where there is no GPU."""
