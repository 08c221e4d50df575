"""Write what of the specification comes from the models: `python spec/generate.py`; `--check` only compares.

The JSON Schemas in spec/schemas/ are written whole. Of the field tables in spec/*.md, between `<!-- fields: Model -->`
and `<!-- end of fields -->`, the first two columns are: every field with its type. What follows in a row is prose, kept
with its field; a new field has none, and is refused until somebody writes it.
"""

import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))  # the tree that this file lies in, whatever is installed

from pydantic import BaseModel  # noqa: E402  (found by the line above)

from verify.behaviour.probes import Choice, PairProbe, Text  # noqa: E402
from verify.contract.audit import AUDIT_SCHEMA, Audit  # noqa: E402
from verify.contract.circuit import CIRCUIT_SCHEMA, CircuitDocument  # noqa: E402
from verify.contract.failure import FAILURE_SCHEMA, Failure  # noqa: E402
from verify.contract.manifest import Statement  # noqa: E402
from verify.contract.policy import policy_schema  # noqa: E402
from verify.contract.result import RESULT_SCHEMA, Result  # noqa: E402
from verify.contract.verification import ReportAnswer, SvrStatement, VerificationStatement  # noqa: E402

SPEC = ROOT / "spec"
DIALECT = "https://json-schema.org/draft/2020-12/schema"
SHA256 = "^[0-9a-f]{64}$"
Json = dict[str, Any]

MODELS: Mapping[str, tuple[str, type[BaseModel]]] = {
    "manifest": ("urn:mansu:schema:manifest:v1", Statement),
    "result": (RESULT_SCHEMA, Result),
    "verification": ("urn:mansu:schema:verification:v1", VerificationStatement),
    "svr": ("urn:mansu:schema:svr:v0.1", SvrStatement),
    "report-check": ("urn:mansu:report-check/v1", ReportAnswer),
    "circuit": (CIRCUIT_SCHEMA, CircuitDocument),
    "audit": (AUDIT_SCHEMA, Audit),
    "error": (FAILURE_SCHEMA, Failure),
}
"""Schema file → its `$id` and the model of the whole document."""
LINES: Mapping[str, type[BaseModel]] = {"Choice": Choice, "Text": Text, "PairProbe": PairProbe}
"""Lines of the files under probes/: they have field tables, and no schema of a whole document."""

_BLOCK = re.compile(r"<!-- fields: (\w+) -->\n(.*?)<!-- end of fields -->", re.DOTALL)
_CELLS = re.compile(r"(?<!\\)\|")
_HEAD = "| field | type | meaning |"


def schemas() -> dict[str, Json]:
    """Return every published JSON Schema by the stem of its file."""
    return {
        **{stem: _schema(schema_id, model) for stem, (schema_id, model) in MODELS.items()},
        "policy": policy_schema(),
    }


def _schema(schema_id: str, model: type[BaseModel]) -> Json:
    generated = model.model_json_schema()
    if "schema_" in generated["properties"]:  # has a default for whoever writes; who reads needs it to be there
        generated["required"] = ["schema_", *generated["required"]]
    return {"$schema": DIALECT, "$id": schema_id, **generated}


def models() -> dict[str, Json]:
    """Return the JSON Schema of every model that a document is made of, by its name, save the policy's own."""
    found: dict[str, Json] = {}
    for model in (*(model for _, model in MODELS.values()), *LINES.values()):
        whole = model.model_json_schema()
        found |= whole.pop("$defs", {}) | {model.__name__: whole}
    policy = set(policy_schema()["$defs"]) | {"Policy"}  # docs/policy.md and its schema describe these
    return {name: found[name] for name in found if name not in policy - {"Profile"}}


def fields(model: Json) -> Iterator[tuple[str, str]]:
    """Yield the name of every field and its type in words."""
    required = model.get("required", [])
    for name, field in model["properties"].items():
        default = "" if name in required else f"; absent: {_literal(field.get('default'))}"
        yield name, _type(field) + default


def _type(field: Json) -> str:  # noqa: PLR0911  (one for each form of a type)
    """Return a field's type in words; KeyError or ValueError for a form that has none here."""
    bounds = [f"{sign} {field[key]}" for key, sign in _BOUNDS.items() if key in field]
    match field:
        case {"$ref": ref}:
            return f"[{ref.rpartition('/')[2]}]()"
        case {"const": value}:
            return _literal(value)
        case {"enum": values}:
            return ", ".join(map(_literal, values))
        case {"anyOf": options}:
            return " or ".join(map(_type, options))
        case {"type": "array", "items": items}:
            sizes = [field.get("minItems"), field.get("maxItems")]
            words = [f"{what} {size}" for what, size in zip(("at least", "at most"), sizes, strict=True) if size]
            return " ".join([f"list of {_type(items)}", *([f"({', '.join(words)})"] if words else [])])
        case {"type": "array", "prefixItems": [first, *others]} if all(other == first for other in others):
            return f"list of {len(others) + 1} of {_type(first)}"
        case {"type": "object", "additionalProperties": values}:
            return f"object of {_type(values)}"
        case {"pattern": pattern}:
            return "sha256" if pattern == SHA256 else f"string `{pattern}`".replace("|", "\\|")
        case {"type": kind}:
            return " ".join([kind, *bounds])
    raise ValueError(field)


_BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<", "minLength": "of length ≥"}


def _literal(value: object) -> str:
    return f"`{json.dumps(value, ensure_ascii=False)}`"


def tables(text: str, known: Mapping[str, Json], places: Mapping[str, str]) -> str:
    """Return a page with its field tables renewed; `places` says on which page the table of a model is."""

    def renewed(block: re.Match[str]) -> str:
        name = block[1]
        head, prose = _prose(block[2].splitlines())
        columns = head.count("|") - 1
        rows = [
            f"| `{field}` | {_linked(kind, places, places[name])} |{prose.get(field, ' |' * (columns - 2))}"
            for field, kind in fields(known[name])
        ]
        table = "\n".join([head, "|" + " --- |" * columns, *rows])
        return f"<!-- fields: {name} -->\n#### `{name}`\n\n{table}\n<!-- end of fields -->"

    return _BLOCK.sub(renewed, text)


def _linked(kind: str, places: Mapping[str, str], page: str) -> str:
    """Return a type with the models that it names as links from a page."""

    def link(found: re.Match[str]) -> str:
        name = found[1]
        if name == "Policy":
            return "[policy](policy.md)"
        return f"[{name}]({'' if places[name] == page else places[name]}#{name.lower()})"

    return re.sub(r"\[(\w+)\]\(\)", link, kind)


def _prose(lines: Iterable[str]) -> tuple[str, dict[str, str]]:
    """Return a table's heading, and what stands behind the second column, by field."""
    head, prose = _HEAD, {}
    for line in lines:
        cells = _CELLS.split(line)
        if line.startswith("| field "):
            head = line
        elif len(cells) > 3 and (name := cells[1].strip()).startswith("`"):
            prose[name.strip("`")] = "|".join(cells[3:])
    return head, prose


def unexplained(text: str) -> list[str]:
    """Return the fields of a page's tables that have an empty cell."""
    found = []
    for block in _BLOCK.finditer(text):
        for name, cells in _prose(block[2].splitlines())[1].items():
            if not all(cell.strip() for cell in _CELLS.split(cells)[:-1]):
                found.append(f"{block[1]}.{name}")
    return found


def described(texts: Mapping[str, str]) -> dict[str, str]:
    """Return which page has the table of each model; ValueError for a second table of one."""
    found: dict[str, str] = {}
    for page, text in texts.items():
        for block in _BLOCK.finditer(text):
            if block[1] in found:
                raise ValueError(f"{block[1]}: a table in {found[block[1]]} and in {page}")
            found[block[1]] = page
    return found


def pages() -> dict[Path, str]:
    """Return every generated file with its content."""
    known = models()
    texts = {path.name: path.read_text(encoding="utf-8") for path in sorted(SPEC.glob("*.md"))}
    places = described(texts)
    written = {
        SPEC / "schemas" / f"{stem}.schema.json": json.dumps(value, indent=2) + "\n"
        for stem, value in schemas().items()
    }
    return written | {SPEC / page: tables(text, known, places) for page, text in texts.items()}


def stale(wanted: Mapping[Path, str]) -> list[Path]:
    """Return the files that are missing, differ, or should not be there."""
    differing = [p for p, text in wanted.items() if not p.is_file() or p.read_text(encoding="utf-8") != text]
    return differing + [path for path in (SPEC / "schemas").glob("*") if path not in wanted]


def main() -> None:
    """Write or, with `--check`, compare; either way refuse a field that nobody has explained."""
    wanted = pages()
    old = stale(wanted)
    if "--check" not in sys.argv[1:]:
        for path in old:
            if path in wanted:
                path.write_text(wanted[path], encoding="utf-8")
            else:
                path.unlink()
    elif old:
        names = ", ".join(str(path.relative_to(ROOT)) for path in old)
        raise SystemExit(f"not up to date: {names}; run `python spec/generate.py`")
    missing = [name for text in wanted.values() for name in unexplained(text)]
    if missing:
        raise SystemExit(f"write in spec/*.md what these fields mean: {', '.join(missing)}")


if __name__ == "__main__":
    main()
