"""What is trained and measured on: token batches, contexts before them, what the base says of them, and probes."""
