"""The engine: makes a language model forget in a way that survives NF4, and seals the evidence.

`unlearn` takes the steps in turn, each a folder: `request` reads the sets, `data` makes them batches and probes,
`circuit` finds where the model keeps the forget set, `retain` and `floor` say what must stay and which values survive,
`mask` chooses what is edited and `solve` edits it (`circuit_edit` takes these four), and `seal` writes the certificate.
None of them knows of a later one. `base`, `config`, `precision`, `progress`, `staging` and `cost` serve them all.
"""

__version__ = "0.1.0"
