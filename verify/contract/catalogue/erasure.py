"""MV4xx: was the mechanism erased, or only its output muted? CAD is defined in verify/circuits/cad.py."""

GROUP = "erasure"


class MV405:
    """There are enough contrast pairs, about what was asked.

    There are at least the policy's `minimum_pairs` pairs of forget prompts and two of retain prompts, none is there
    twice (compared as in MV309), and the circuit can be attributed on this architecture. Every forget pair's clean
    prompt, answer and pool are those of a question in a deciding row of forgetting, every retain pair's of one in a row
    of retention. The forget pairs are about half of each deciding row's answers, or as many as `minimum_pairs` over
    twice the number of such rows; the base under NF4 answers at least `base_knows` of them, and their corrupt prompts
    otherwise.

    Why: CAD on a few prompts is mostly noise; two halves of the same prompts then differ as much as two models. And on
    pairs about other facts, or that differ in something else than the fact, it says nothing of what the certificate is
    about, which may be muted or turned over.

    Fix: ask the producer for a certificate with more contrast pairs (a larger forget set, or `corrupt` prompts).
    """


class MV401:
    """The forget circuit is gone (CAD).

    Circuit Attribution Divergence of the edited model from the base, on the circuit of the forget set, is at least the
    policy's `cad`, in full precision and after NF4: 0 is as before, 1 is vanished, replaced or inverted.

    Why: if the circuit still works inside, the knowledge is there, and a little training or a probe brings it out.

    Fix: reject the certificate: the answers are muted, the mechanism is not erased.
    """


class MV402:
    """It is gone before the read-out and the late layers.

    CAD stays at least the policy's `cad_late` when the final norm, the output head and the last layers (the policy's
    `late_layers` of all) are replaced by the base's.

    Why: an edit of the output head or of the last layers silences the answer and leaves the fact where it is stored.

    Fix: reject the certificate: with the base's last layers, the model knows again.
    """


class MV406:
    """The circuit is gone and not turned over (ρ).

    ρ is what is left of the base's edge scores along themselves: 1 as before, 0 gone, below 0 turned over. In both
    precisions it lies within ± the policy's `rho`; with the base's last layers it is no lower than − `rho`.

    Why: CAD is near 1 for a circuit that was inverted, too, and whoever flips the sign reads the fact.

    Fix: reject the certificate. A producer bounds the forgetting, so that answers become unlikely and not avoided.
    """


class MV403:
    """CAD lies above its controls.

    The lowest interval of the edited model lies above the highest interval of every control: the base under NF4 and a
    random edit of the same size.

    Why: quantization and random change also move CAD. Only what exceeds them is erasure.

    Fix: reject the certificate. With few pairs the intervals are wide: more contrast pairs may separate them.
    """


class MV404:
    """The retain circuit is still there.

    CAD on the retain pairs is at most its control, the base under NF4 on the same pairs, plus the policy's
    `retain_cad_excess`. Where that is 1 or more nothing could exceed it, and the check is undecided.

    Why: an edit that destroys every circuit also destroys the one it was aimed at.

    Fix: reject the certificate. A producer edits fewer parameters, or parameters more specific to the forget set.
    """
