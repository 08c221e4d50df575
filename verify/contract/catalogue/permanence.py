"""MV2xx: the edit survives NF4, value by value, under every deployment profile claimed. From the weights alone."""

GROUP = "permanence"


class MV201:
    """Every weight is a finite number.

    No weight of the model is NaN or infinite, masked or not, and none becomes infinite in a cast that a profile claims.

    Why: no quantizer defines a 4-bit code for such a value, and one of them spoils its whole block.

    Fix: reject the model. If a cast overflows, the producer leaves that profile out and certifies anew.
    """


class MV202:
    """Only weights that NF4 quantizes are masked.

    Every masked value lies in the weight of a linear layer that NF4 quantizes, under every profile; none in embeddings,
    norms, biases or the output head.

    Why: the five rows say something about quantized weights only. An edit elsewhere is certified by nothing.

    Fix: reject the certificate. A producer whose `skip` list leaves edited modules out removes that profile.
    """


class MV203:
    """Floor: every update is at least half a bin width.

    For each masked value, the distance between the edited and the base weight is at least half the width of the NF4
    bin that held the base value: its block's scale times the length of the code's cell.

    Why: an update far below the bin width rounds away in quantization, and the knowledge returns. The floor alone is
    not enough (half of such updates keep their code), which is why the crossing, the margin, the realised move and
    the scale are checked too.

    Fix: reject the certificate. A producer edits with mansu's lattice, which moves values to levels of other codes.
    """


class MV204:
    """Crossing: every masked value has a new 4-bit code.

    Quantized exactly as NF4 does, each masked value has another code after the edit than before it.

    Why: with the old code, the deployed weight is the old weight: the edit is undone.

    Fix: reject the certificate. A producer moves the values named to the level of another code, or takes them out of
    the mask.
    """


class MV205:
    """Margin: every new code holds on every backend.

    Each edited value lies at least the policy's `margin` (in units of its block's scale) from the nearest threshold
    between codes, and its base value as far outside the new cell.

    Why: kernels for CPU and GPU, and casts to bfloat16 or float16, differ by a rounding at thresholds. With a margin
    they all give the same code.

    Fix: reject the certificate, or judge it by a policy with the smaller margin that your one backend needs.
    """


class MV206:
    """Realised: every dequantized value moved as far.

    What NF4 makes of the edited value differs from what it makes of the base value in the direction of the update, by
    at least half a bin width.

    Why: a new code under another scale can stand for nearly the old weight. What counts is the weight that runs.

    Fix: reject the certificate. A producer keeps the block's scale and moves the value further.
    """


class MV207:
    """Scale: no block rescaled its unmasked values.

    In every block with masked values, the scale (the largest absolute value) is the base's, or every unmasked code in
    it is as before.

    Why: one raised maximum rescales up to 63 neighbours, and changes weights that nobody declared.

    Fix: reject the certificate. A producer never masks the value that holds a block's scale, nor exceeds it.
    """


class MV208:
    """No unmasked 4-bit code changed.

    After quantization, no value outside the mask has another code than the base's.

    Why: the deployed model must differ from the deployed base only where it was declared.

    Fix: reject the certificate: the edit alters, once quantized, weights that the manifest says it left alone.
    """


class MV209:
    """Sparsity: few parameters changed.

    The masked share of all parameters is at most the policy's `maximum_changed`.

    Why: the claim is an edit of the few parameters that carry the knowledge. A change spread widely is a fine-tune, and
    is judged as one.

    Fix: judge it by a policy that admits a denser edit, if you accept one; otherwise reject the certificate.
    """


class MV210:
    """Enough parameters are masked.

    At least the policy's `minimum_masked` values are masked in weights that NF4 quantizes, under every profile.

    Why: an empty or decoy mask satisfies every other row trivially.

    Fix: reject the certificate: nothing was edited that quantization could undo.
    """


class MV211:
    """The usual deployment is among the profiles.

    The manifest claims a profile with the policy's `block_size` (64), of the weights as stored, with nothing skipped,
    and the rows were checked under it.

    Why: the producer chooses the profiles to claim. Without this one, a change could be certified for deployments that
    nobody has.

    Fix: ask for a certificate that claims it (mansu's default does), or set `block_size` in the policy to what you
    deploy.
    """
