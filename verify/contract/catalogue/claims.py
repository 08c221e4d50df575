"""MV308: what the manifest claims of the model is what the verifier measures."""

GROUP = "forgetting"


class MV308:
    """The claims in the manifest are met.

    Every number that the verifier measures is claimed in the manifest and within the policy's `claim_tolerance` of the
    measurement, with the same number of probes; and nothing else is claimed.

    Why: numbers that do not come back were measured on other data, another model or in another way.

    Fix: reject the certificate: its numbers do not come back.
    """
