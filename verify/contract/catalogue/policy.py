"""MV5xx: what a policy requires a certificate to be. What is required and missing fails; it is never skipped."""

GROUP = "policy"


class MV501:
    """The checks went as far as the policy requires.

    The policy's `level` is "static", "full" or "own-probes", each more than the one before. The run was at least that.

    Why: a static run says nothing of what the model answers. A gate that asks for model runs needs them.

    Fix: run it again without `--checks static`, and with `--probes DIR` where the policy asks for probes of your own.
    """


class MV502:
    """The rebuilt base is one that the policy allows.

    The base, rebuilt from the ledger, has the digests of one entry of the policy's `bases`: every weight file is named
    there, and every file named is the base's. Files of two entries are not mixed.

    Why: the base's digest in the manifest is the producer's word. A list of bases that you trust is yours.

    Fix: reject the certificate, or add the base to a policy of yours after checking its digests with its vendor.
    """


class MV503:
    """Every profile that the policy requires is claimed.

    The five rows are examined under the profiles that the manifest claims; each of the policy's `profiles` is among
    them. A cast to the type the weights are stored in counts as no cast.

    Why: an edit that survives one way of quantizing may not survive the one you deploy with.

    Fix: reject the certificate; ask the producer to build for, and claim, the profile you deploy with.
    """


class MV504:
    """The manifest is no older than the policy allows.

    The manifest's date is a moment with an offset, at most `maximum_age_days` before the verifier's clock, and not
    after it, save five minutes for clocks that differ.

    Why: an old certificate may have been superseded. The date is the signer's word, so it stops mistakes, not liars.

    Fix: ask the producer for a certificate made lately, or check the clock of this machine.
    """


class MV505:
    """The manifest's sequence number is recent enough.

    The manifest's `sequence` is at least the policy's `minimum_sequence`.

    Why: whoever delivers the files could play back an older, duly signed certificate of the same producer.

    Fix: use the producer's latest certificate, and raise `minimum_sequence` with each that you accept. A producer
    numbers a certificate with `mansu unlearn --supersedes`.
    """


class MV506:
    """The manifest committed to the policy beforehand.

    Where the policy says `pre_registered`, the signed manifest names this policy's digest. Without that requirement the
    result says what the manifest committed to.

    Why: thresholds that are chosen after the numbers are known prove little.

    Fix: judge the certificate by the policy it committed to, or ask for one made with `mansu unlearn --policy`.
    """


class MV507:
    """The probes are whose the policy wants them to be.

    At the level "own-probes" the model is measured on a folder of your own probes, and every row that decides has as
    many prompts as the policy's `minimum_probes` that are not among the producer's.

    Why: questions that the producer chose, the producer could also have trained on.

    Fix: give `--probes DIR` with enough questions of your own.
    """


class MV508:
    """The signer is one that the policy trusts.

    Where the policy lists `trusted_keys`, the key whose signature holds is one of them.

    Why: who may certify is for the policy to say, and not for whoever runs the command.

    Fix: reject the certificate, or add the producer's key to a policy of yours.
    """
