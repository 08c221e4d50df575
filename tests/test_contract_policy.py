"""The policy as a contract: its digest, its published schema (`python spec/generate.py`) and its documented example."""

import json
import re
import tomllib
from pathlib import Path

import jsonschema
import pytest
import rfc8785

from verify.artefact.policy_file import parse_policy
from verify.contract.policy import AllowedBase, Policy, TrustedKey, policy_schema
from verify.errors import UsageError

ROOT = Path(__file__).parent.parent
SCHEMA = ROOT / "spec" / "schemas" / "policy.schema.json"


def example() -> str:
    (block,) = re.findall(r"```toml\n(.*?)```", (ROOT / "docs" / "policy.md").read_text(encoding="utf-8"), re.DOTALL)
    return block


def test_the_published_schema_is_the_models() -> None:
    assert json.loads(SCHEMA.read_text(encoding="utf-8")) == policy_schema()
    jsonschema.Draft202012Validator.check_schema(policy_schema())


def test_the_documented_example_is_complete_and_shows_the_defaults() -> None:
    values = tomllib.loads(example())
    assert set(values) == set(Policy.model_fields)
    jsonschema.validate(values, json.loads(SCHEMA.read_text(encoding="utf-8")))
    policy = parse_policy(example().encode(), name="docs/policy.md")
    required = {"level", "trusted_keys", "bases", "profiles", "maximum_age_days"}
    assert policy.model_dump(exclude=required) == Policy().model_dump(exclude=required)


@pytest.mark.parametrize(
    "change",
    [
        {"level": None},
        {"level": "all"},
        {"unknown": 1},
        {"forget_rule": "lower"},
        {"forget_accuracy": 1.5},
        {"forget_accuracy": "0.08"},
        {"minimum_probes": 0},
        {"pre_registered": "true"},
        {"trusted_keys": []},
        {"trusted_keys": [{"path": "k.pem"}]},
        {"trusted_keys": [{"fingerprint": "A" * 64}]},
        {"trusted_keys": [{"fingerprint": "a" * 64, "path": "a\nb"}]},
        {"bases": [{"name": "x", "files": {}}]},
        {"bases": [{"name": "x", "files": {"a\nb": "0" * 64}}]},
        {"profiles": [{"quant_type": "fp4"}]},
        {"profiles": [{"block": 64}]},
        {"maximum_age_days": 0},
        {"minimum_sequence": 2**53},
    ],
)
def test_schema_and_reader_refuse_the_same(change: dict[str, object]) -> None:
    values = {**tomllib.loads(example()), **change}
    values = {key: value for key, value in values.items() if value is not None}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(values, policy_schema())
    with pytest.raises(UsageError):
        parse_policy(_toml(values).encode(), name="p.toml")


def _toml(values: dict[str, object]) -> str:
    """Write flat keys and inline tables; enough for a test."""

    def written(value: object) -> str:
        if isinstance(value, dict):
            return "{" + ", ".join(f"{json.dumps(key)} = {written(item)}" for key, item in value.items()) + "}"
        if isinstance(value, list):
            return "[" + ", ".join(map(written, value)) + "]"
        return json.dumps(value)

    return "".join(f"{key} = {written(value)}\n" for key, value in values.items())


def test_the_digest_is_over_the_whole_rfc_8785_form() -> None:
    import hashlib

    policy = Policy(level="full", bases=(AllowedBase(name="x", files={"b": "1" * 64, "a": "2" * 64}),))
    form = rfc8785.dumps(json.loads(policy.model_dump_json()))
    assert policy.sha256() == hashlib.sha256(form).hexdigest()
    other_order = AllowedBase(name="x", files={"a": "2" * 64, "b": "1" * 64})
    assert policy.sha256() == Policy(level="full", bases=(other_order,)).sha256()


def test_every_field_counts_for_the_digest() -> None:
    changed: dict[str, object] = {
        "level": "full",
        "trusted_keys": (TrustedKey(fingerprint="a" * 64),),
        "bases": (AllowedBase(name="x", files={"a": "b" * 64}),),
        "profiles": (),
        "maximum_age_days": 1.0,
        "pre_registered": True,
    }
    digests = {Policy().sha256()}
    for name in Policy.model_fields:
        default = getattr(Policy(), name)
        match default:
            case str():
                other: object = "interval"
            case int():
                other = default + 1
            case _:
                other = (default or 0) / 2 + 1
        digests.add(Policy().model_copy(update={name: changed.get(name, other)}).sha256())
    assert len(digests) == len(Policy.model_fields) + 1


def test_comments_order_and_spacing_do_not_change_the_digest() -> None:
    one = parse_policy(b'level = "full"\nptq_gap = 0\ncad = 0.5\n', name="p")
    two = parse_policy(b'# stricter\ncad=5e-1\n\nlevel="full"\nptq_gap=-0.0', name="p")
    assert one.sha256() == two.sha256()
