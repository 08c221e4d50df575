"""MV1xx: these bytes, signed by that key, are that base with exactly the declared values changed."""

GROUP = "integrity"


class MV101:
    """Files are readable regular files.

    Every file of the certificate is a regular file with an ordinary relative name, can be read, and does not change
    while it is read. Links, pipes, devices and names with `..` are refused.

    Why: what is hashed must be what is used. A link or a pipe can show other bytes the second time, and a name that
    leaves the folder would have the verifier judge a file that is not part of the certificate.

    Fix: copy the certificate folder as plain files to a disk that nothing else writes to, and check again. If that does
    not help, obtain it again from its producer.
    """


class MV102:
    """The manifest is well formed.

    `m.json` is strict JSON that can be read in one way only: no key twice, no NaN, canonical base64, exactly one
    signature, a payload in RFC 8785 form, only fields of the format, and nothing stated twice.

    Why: two readers of a loose document can see two different things. What one signed, the other would not check.

    Fix: obtain `m.json` again from the producer, byte for byte: an editor or a formatter may have rewritten it. A
    producer writes it with `mansu unlearn` and does not touch it.
    """


class MV103:
    """The manifest is signed by a key the user trusts.

    The one signature of the manifest verifies under a public key given with --key, in the policy, or by MANSU_KEY. No
    key beside the artefact is ever used. Without any key the check stays undecided.

    Why: a digest says that files fit together; only a signature by a key that you got elsewhere says who vouches for
    them.

    Fix: give the producer's public key with --key, obtained by another way than the files. If the signature does not
    verify under the right key, the manifest is another's or was altered: reject the certificate.
    """


class MV104:
    """The manifest is of the type it should be.

    Payload type, statement type and predicate type are those of an unlearning certificate of a version this verifier
    knows.

    Why: a signature on another kind of document, made for another purpose, must not count as a certificate.

    Fix: give the certificate's own `m.json`. For a newer predicate type, use a newer mansu-verify.
    """


class MV105:
    """The files are exactly those signed.

    Every file that the manifest lists is there with its SHA-256 digest, and no other file lies in the model's folder or
    in `probes/`.

    Why: a changed, missing or added file makes another model than the one certified; loaders pick files by name.

    Fix: remove what you added yourself (caches, reports), or obtain the named files again from the producer.
    """


class MV112:
    """model.sig, if there is one, signs exactly the model's files.

    The OpenSSF Model Signing bundle beside the model verifies with the key that the user trusts, and names every file
    of the model with its digest, and no other.

    Why: other tools verify the model by this bundle alone. It must not say something else than the manifest does.

    Fix: reject the certificate, or obtain `model.sig` again from its producer. If nobody's key was given, give it.
    """


class MV110:
    """Weight files and ledger are strict safetensors.

    The header has one reading: tensor names once each, known dtypes, offsets that fit the shapes, no overlap, no gap,
    no bytes left over, and a bounded size.

    Why: readers disagree on sloppy headers (one takes the first of two tensors of a name, another the last), so the
    weights examined would not be the weights deployed.

    Fix: write the file with the reference `safetensors` library. Reject a certificate that needs a lenient reader.
    """


class MV111:
    """The weight files are the ones a loader would take.

    There is either one `model.safetensors` or an index with its shards; the index names every tensor once, in the file
    that holds it, and no other weight file lies beside them.

    Why: a stray or hidden weight file could be loaded instead of the one examined.

    Fix: name the model folder, `model.safetensors` or its index as the model, and remove weight files that are not
    part of it. Otherwise obtain the folder again.
    """


class MV120:
    """The ledger is well formed.

    `ledger.safetensors` holds, for each masked tensor, sorted distinct flat indices and as many base values.

    Why: the ledger is what turns the edited model back into its base. If it could be read in two ways, so could the
    change.

    Fix: obtain the ledger again from the producer, who writes it with `mansu unlearn`.
    """


class MV121:
    """The ledger fits the weights.

    Every tensor of the ledger lies in exactly one weight file, has the file's dtype, and its indices lie within it.

    Why: an entry that fits nothing cannot be put back, and one that fits two files could be put back in two ways.

    Fix: check that model and ledger come from the same certificate; obtain both again if they do.
    """


class MV106:
    """The model folder is usable and runs no code.

    The folder is a causal language model of a supported architecture with weights in safetensors of one dtype that fit
    its configuration. It carries no Python code, pickle, adapter or other weights, and its configuration loads none
    (`auto_map`, `trust_remote_code`, custom kernels, quantized checkpoints), nor do its settings answer in place of the
    weights (`sequence_bias`, suppressed or forced tokens). Its tokenizer can be read and used, gives the same tokens
    each time (no `dropout`), in time and memory in proportion to the text; and a model of its configuration runs.

    Why: code or settings in the folder could answer instead of the weights, and code could do anything to the machine
    that loads it.

    Fix: do not deploy the folder. A producer removes the files and the settings named, from the base as well, and
    certifies anew.
    """


class MV107:
    """The base, rebuilt from the ledger, has the expected digests.

    The ledger's values are put back into the weight files in memory; the result must have the digests that the
    manifest claims for the base, and those given with --base-digest.

    Why: it shows, bit for bit, that nothing but the declared values differs from the vendor's model. It is as strong
    as the digest it meets: pinned by you, or only claimed by the producer.

    Fix: check that --base-digest is the vendor's digest of this very file. If it is, the model was not made from this
    base by the declared changes alone: reject the certificate.
    """


class MV108:
    """Every file beside the weights is the base's.

    Configuration, tokenizer and all other files equal the base's byte for byte, by the digests in the manifest, and
    none was added or removed.

    Why: another tokenizer or configuration changes what the model says and what NF4 quantizes, without touching a
    weight.

    Fix: reject the certificate, or have the producer certify again from the untouched base folder.
    """


class MV109:
    """The declared mask is the set of changed values.

    Per tensor, the manifest's counts are the ledger's; the totals are the model's; the ledger's digest is the one
    signed; and every masked value really differs from the base's.

    Why: a mask that is larger than the change (decoys), or that describes another ledger, makes every count in the
    certificate worthless.

    Fix: reject the certificate: its manifest does not describe its own ledger.
    """
