"""MV7xx: a checkpoint that bitsandbytes quantized and saved is exactly the NF4 of the certified model."""

GROUP = "deployed"


class MV701:
    """The deployed folder can be read in one way.

    Its files are regular files with ordinary names, one set of weight files in strict safetensors, no larger together
    than an NF4 form of the certified model can be, and they do not change while they are read. The certified model does
    not change between its own checks and the comparison either.

    Why: a comparison says something only of the bytes that a loader will take, and of one set of them.

    Fix: copy the folder as plain files to a disk that nothing else writes to, with the weights that `save_pretrained`
    wrote and no others.
    """


class MV702:
    """The deployed folder runs no code and describes the certified model.

    No code, pickle or foreign weights lie in it. Its `config.json`, without `quantization_config`, dtype and version,
    means the same model to `transformers` as the certified one, and has no further key that another loader may follow.

    Why: equal weights under another configuration, such as another rope or another activation, are another model.

    Fix: do not deploy the folder. Quantize the certified model again with `transformers` and `save_pretrained`.
    """


class MV703:
    """The deployed file is NF4 in a profile that the certificate claims.

    Quantization type, block size, kind of the scales, cast and skipped modules are one deployment profile of the
    manifest, and `quantization_config` says the same. FP4 is refused by its name.

    Why: permanence was examined under the profiles of the manifest. What another block size or FP4 does to the edit is
    not certified.

    Fix: quantize in one of the profiles that the message lists, or ask the producer for a certificate that claims this
    one.
    """


class MV704:
    """Every quantization state is well formed.

    The state that bitsandbytes stores beside each weight is strict JSON of exactly its known fields: type, block size,
    dtype, shape and, with nested statistics, their block size of 256, their float32 and a finite offset.

    Why: a loader takes all of it on trust. A state with two readings, or with an absurd shape, is read differently by
    another one.

    Fix: do not deploy the file; quantize the certified model again and save it with `save_pretrained`.
    """


class MV705:
    """The deployed tensors are those that NF4 makes of the certified model.

    Every weight that the profile quantizes is packed with its scales, every other tensor is there as it is, and nothing
    is missing, extra, renamed or of another shape or dtype.

    Why: a layer that was left unquantized, or an extra tensor, makes another model than the one certified for NF4.

    Fix: do not deploy the file; quantize the certified model again and save it with `save_pretrained`.
    """


class MV706:
    """Every 4-bit code is that of the certified weight.

    The packed codes of each quantized weight are, bit for bit, those that the exact quantizer gives for the certified
    one under the stated cast and block size.

    Why: this is where the edit lives. Codes of the base, or a single flipped nibble, are another model.

    Fix: do not deploy the file; quantize the certified model again. A file made on another backend can differ where a
    value lies on a threshold (docs/nf4.md): make it on the CPU.
    """


class MV707:
    """Every scale is that of the certified weight.

    Block scales, and with nested statistics their 8-bit codes, the scales of those, the offset and both maps of levels
    are those of the exact quantizer, bit for bit. The offset alone is a mean whose last bits depend on the backend: it
    may differ by rounding (2⁻²¹), and the rest is then compared under the offset that is stored.

    Why: scales and maps decide what a code means. Codes can be right and every weight wrong.

    Fix: do not deploy the file; quantize the certified model again, on the CPU, and save it before its first forward.
    """


class MV708:
    """Every tensor that is not quantized is the certified one.

    Embeddings, norms, biases and the output head equal the certified values, cast to the dtype that the deployed
    `config.json` names; a tied head equals its embedding.

    Why: an edit undone, or a fact put back, in the part that stays in full precision is no smaller a change.

    Fix: do not deploy the file; quantize the certified model again and save it with `save_pretrained`.
    """


class MV709:
    """The files beside the deployed weights are the certified ones.

    Tokenizer, templates and the like equal the certified files, as bytes or as JSON; `generation_config.json` may be
    the one that `transformers` derives from the configuration, and may be left out only then. A `tokenizer.json` needs
    its `tokenizer_config.json` and `chat_template.jinja`. Licences and readme files are not compared.

    Why: another tokenizer or generation setting changes every answer and no weight.

    Fix: copy these files from the certified model's folder.
    """
