"""Which parameters are edited: those within the circuit that carry the forget set and little of what is retained."""
