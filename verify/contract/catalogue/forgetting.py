"""MV3xx, first part: it is forgotten, in full precision and after NF4."""

GROUP = "forgetting"


class MV301:
    """The probes are well formed.

    The files under `probes/` are there, in the probe format, and usable with this model and its tokenizer: answers and
    prompts tokenize to something that the model knows, none is longer than its context or 4096 tokens, pools leave a
    choice, contrast pairs match in length.

    Why: a question that cannot be asked, or has one possible answer, measures nothing.

    Fix: ask the producer for the whole certificate folder, or for probes that fit this tokenizer.
    """


class MV302:
    """NF4 was applied as defined.

    After quantization, every linear weight of the measured model has exactly the codes that the exact quantizer gives.

    Why: elsewhere, 4-bit measurements turned out to be of FP4, or of a model that was never quantized. A measurement
    under NF4 must prove that NF4 happened.

    Fix: report it as a bug of mansu-verify, with the model's architecture and `--version`.
    """


class MV303:
    """Positive control: the base under NF4 knows the forget set.

    The base model, quantized the same way, answers at least the policy's `base_knows` of every forgetting row. In both
    precisions its interval lies above what a model without knowledge gets: by chance, or by always giving the row's
    commonest answer. Otherwise the result is undecided.

    Why: if the base cannot answer, silence of the edited model shows nothing; and who gives one answer to every
    question of a row that has no other is right, and knows nothing.

    Fix: ask for probes with many answers that the base under NF4 can give, or use another base.
    """


class MV309:
    """There are enough probes of every kind.

    There are forgetting rows of held-out wordings, retention rows and prose, and every row has at least the policy's
    `minimum_probes` probes, all distinct: as texts without regard to white space, case and Unicode form, and as the
    tokens that the model is given. A missing kind fails; too few, or one that is asked twice in a row, leave it
    undecided.

    Why: intervals on few questions are so wide that they prove nothing, and one question repeated is one question.

    Fix: ask the producer for a certificate with more held-out probes: the engine holds out a share of the sets, so
    larger sets are needed.
    """


class MV304:
    """The forget set is forgotten, before and after NF4.

    On held-out wordings, the edited model's accuracy is at most the policy's `forget_accuracy`, in full precision and
    after NF4. Where the right answer ties for the likeliest, the edited model counts as knowing it.

    Why: this is what the certificate is for. Both precisions count, since either may be deployed.

    Fix: reject the certificate: the model still answers. A producer trains longer, or masks more.
    """


class MV310:
    """No other reading of the answers tells it.

    With each answer's mean logit over the row taken off, and with that turned over, the edited model answers at most
    the policy's `rho` of what the base answers with means taken off, both counted above chance. Where the tokenizer
    puts special tokens around a text, the deciding questions are asked without them too; there the accuracy as such
    must also be at most `forget_accuracy`.

    Why: a model that always says the same, and would say the right answer next, has forgotten nothing, nor has one that
    turns its answers over: who knows of it reads them off. And a chat template or a server may send other special
    tokens than the tokenizer does.

    Fix: reject the certificate: the knowledge was covered, or moved to another place. A producer trains until the
    answers carry nothing, in either direction.
    """


class MV307:
    """NF4 brings nothing back (PTQ gap).

    On the same probes, accuracy on the forget set after NF4 minus accuracy before it is at most the policy's
    `ptq_gap`, or its interval touches zero.

    Why: knowledge that returns when the model is quantized was hidden, not removed. This is the failure of most
    unlearning methods.

    Fix: reject the certificate: quantization undoes part of the edit.
    """
