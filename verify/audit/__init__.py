"""Any two models, or a model and a LoRA adapter: what changed, how large it is against NF4's bins, what NF4 undoes.

No manifest is needed and no verdict is given. `weights` opens both sides and checks that they fit, `lora` merges an
adapter as peft does, `deployment` says what is quantized and from which dtype, `kernels` counts one piece, `tally` adds
pieces up, `compare` streams the tensors, `questions` reads the sets to measure on, `behaviour` measures the models, and
`overall` joins it all to a `verify.contract.audit.Audit`.
"""

from verify.audit.overall import Sets, audit

__all__ = ["Sets", "audit"]
