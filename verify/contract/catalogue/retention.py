"""MV3xx, second part: everything else is kept."""

GROUP = "retention"


class MV305:
    """What should stay is still answered.

    On every row of held-out retain facts, the edited model loses at most the policy's `retention_loss` of accuracy
    against the base in the same precision. A row that the base answers hardly more often than chance, or than one
    answer to every question would, decides nothing: there was nothing to lose.

    Why: a collapsed model forgets everything. Forgetting counts only beside what was kept.

    Fix: reject the certificate. A producer adds what was lost to the retain set, or asks for less.
    """


class MV306:
    """Prose is modelled as well as before.

    On every row of held-out prose, perplexity rises by at most the policy's `perplexity_rise` against the base in the
    same precision. Prose that the base takes for noise, every token as likely as any other, decides nothing.

    Why: facts can survive while the language around them decays; perplexity sees it early.

    Fix: reject the certificate. A producer adds prose of that kind to the retain set.
    """
