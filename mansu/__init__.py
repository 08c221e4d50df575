"""The engine: makes a language model forget in a way that survives NF4, and seals the evidence.

`unlearn` takes the steps in turn, each a folder: `request` reads the sets, `data` makes them batches and probes,
`circuit` finds where they are, `retain` and `floor` say what must stay and which values survive, `mask` chooses what is
edited, `solve` edits it, and `seal` writes the certificate. None of them knows of a later one.
"""

__version__ = "0.1.0"
