"""Vectors that hold: every form that a reader must accept."""

import json
from datetime import UTC, datetime

import authority
import certificates as c
import producer as p
import rfc8785
import torch
from case import Cases, Given

from verify.artefact import load_private
from verify.artefact.bundle import seal
from verify.artefact.oms import sign as sign_oms
from verify.artefact.signing import Signer
from verify.contract.manifest import Statement

CASES = Cases()
ADD = CASES.add
CENTURY = {"start": datetime(2025, 1, 1, tzinfo=UTC), "end": datetime(2124, 12, 31, tzinfo=UTC)}


@ADD("An honest certificate in one weight file, bfloat16, under mansu's eight default profiles.")
def plain(_: c.Certificate) -> None:
    pass


@ADD("The weights in two files with their index.")
def two_weight_files(made: c.Certificate) -> None:
    p.remake(made, p.weights(), shards=2)


@ADD("The weights in float16.")
def float16(made: c.Certificate) -> None:
    p.remake(made, p.weights(dtype=torch.float16), config={**p.CONFIG, "dtype": "float16"})


@ADD("The weights in float32; the casts that the profiles claim are then real ones.")
def float32(made: c.Certificate) -> None:
    p.remake(made, p.weights(dtype=torch.float32), config={**p.CONFIG, "dtype": "float32"})


@ADD("One masked value.")
def one_value(made: c.Certificate) -> None:
    p.remake(made, p.weights(), changed=p.edits(made.base, tensors=[p.MASKED], each=1))


@ADD("A profile with every field left out: each then has its default.")
def profile_of_defaults(made: c.Certificate) -> None:
    p.sign_again(made, lambda statement: statement["predicate"].update(profiles=[{}]))


@ADD("A profile with a skip list, which replaces the default rule and here says the same.")
def skip_list(made: c.Certificate) -> None:
    p.remake(made, p.weights(), tokenizer=True)
    p.sign_again(made, lambda statement: statement["predicate"].update(profiles=[{}, {"skip": ["lm_head"]}]))


@ADD("The fields of the predicate that may be absent are absent.")
def optional_fields_absent(made: c.Certificate) -> None:
    def change(statement: p.Statement) -> None:
        for name in ("sequence", "previous_sha256", "policy_sha256"):
            del statement["predicate"][name]

    p.sign_again(made, change)


@ADD("The bundle's JSON is indented: only the payload must be in RFC 8785 form.")
def indented_bundle(made: c.Certificate) -> None:
    made.manifest.write_text(json.dumps(json.loads(made.manifest.read_bytes()), indent=2))


@ADD("The signature has no keyid and the material no tlogEntries, both of which are optional.")
def no_keyid(made: c.Certificate) -> None:
    bundle = json.loads(made.manifest.read_bytes())
    del bundle["dsseEnvelope"]["signatures"][0]["keyid"]
    del bundle["verificationMaterial"]["tlogEntries"]
    made.manifest.write_bytes(rfc8785.dumps(bundle))


@ADD("A listed file outside model/ and probes/: it is checked like any other.")
def another_listed_file(made: c.Certificate) -> None:
    (made.out / "NOTICE").write_text("made for a test\n")
    p.sign_again(made)


@ADD("A file beside the certificate that is not listed and lies outside model/ and probes/: reports lie there.")
def a_report_beside_it(made: c.Certificate) -> None:
    (made.out / "report").mkdir()
    (made.out / "report" / "result.json").write_text("{}\n")


@ADD("model.sig, an OMS bundle over the model's files by the same key.")
def with_model_sig(made: c.Certificate) -> None:
    digests = c.digests_of(made.out / "model")
    (made.out / "model.sig").write_bytes(sign_oms("model", digests, Signer(load_private(made.keys.private))))


@ADD("Several keys are given, the signer's is the second.")
def one_of_two_keys(_: c.Certificate) -> Given:
    return Given(keys=("../../keys/stranger.pem", "../../keys/producer.pem"))


@ADD("The base's weight file is pinned to its digest.")
def pinned_base(made: c.Certificate) -> Given:
    return Given(base_digests={"model.safetensors": c.digests_of(made.base)["model.safetensors"]})


@ADD("A policy that requires the signer, the base, a profile and a sequence number, all of which are there.")
def under_a_policy(made: c.Certificate) -> Given:
    p.sign_again(made, lambda statement: statement["predicate"].update(sequence=7, previous_sha256=c.ZERO))
    fingerprint = json.loads(made.manifest.read_bytes())["verificationMaterial"]["publicKey"]["hint"]
    digest = c.digests_of(made.base)["model.safetensors"]
    policy = f"""level = "static"
minimum_sequence = 7
minimum_masked = 8

[[trusted_keys]]
fingerprint = "{fingerprint}"
path = "../../keys/producer.pem"

[[bases]]
name = "the tiny base"
[bases.files]
"model.safetensors" = "{digest}"

[[profiles]]
block_size = 128
double_quant = true
cast = "bf16"
"""
    (made.out.parent / "policy.toml").write_text(policy)
    return Given(keys=(), policy="policy.toml")


@ADD("Signed by certificate; the user gives its root and the identity, and no key. Valid until the end of 2124.")
def by_certificate(made: c.Certificate) -> Given:
    root = authority.Issuer("test vectors, a root that nobody trusts", **CENTURY)
    leaf = root.issue(p.key("producer").public_key(), **CENTURY)
    statement = Statement.model_validate_json(json.dumps(p.statement_of(made)))
    made.manifest.write_bytes(seal(statement, p.key("producer"), authority.der(leaf)))
    (made.out.parent / "root.pem").write_bytes(authority.pem(root.certificate))
    return Given(keys=(), cert_roots=("root.pem",), cert_identity=authority.MAIL)


@ADD(
    "The plain certificate when no key is given: nobody vouches for it, and nothing speaks against it.",
    verdict="UNDECIDED",
)
def no_key_given(_: c.Certificate) -> Given:
    return Given(keys=())
