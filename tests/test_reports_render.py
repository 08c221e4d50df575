"""Three fixed results in every form, then HTML and JSON.

`python tests/test_reports_render.py` writes the expected renderings anew.
"""

import base64
import hashlib
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from reports import (
    policy_words,
    render_card,
    render_html,
    render_json,
    render_junit,
    render_markdown,
    render_sarif,
    render_text,
)
from verify.contract.policy import AllowedBase, Policy, TrustedKey
from verify.contract.result import ProbesUsed, Result
from verify.contract.schema import FileDigest

GOLDEN = Path(__file__).parent / "golden"
NAMES = ("pass_full", "fail_static", "undecided_full")


def card(result: Result) -> str:
    return render_card(result, hashlib.sha256(render_json(result).encode()).hexdigest())


GOLDEN_FORMS: dict[str, Callable[[Result], str]] = {
    "html": render_html,
    "txt": render_text,
    "md": render_markdown,
    "sarif": render_sarif,
    "xml": render_junit,
    "card.md": card,
}
VOID = {"meta", "br", "link", "img", "hr", "input"}
HOSTILE = '"><script>alert(1)</script>\x1b[2J\u202e{{ 7*7 }}\x85<!--'


def load(name: str) -> Result:
    return Result.model_validate_json((GOLDEN / f"report_{name}.json").read_text(encoding="utf-8"))


def poison(value: Any, text: str) -> Any:
    """Put `text` into every free string of dumped JSON data; ids, choices and digests must stay valid."""
    fixed = {
        "schema_",
        "verdict",
        "status",
        "group",
        "level",
        "axis",
        "unit",
        "role",
        "precision",
        "signature",
        "sha256",
        "writer",
        "reader",
    }
    fixed |= {"origin", "pre_registration", *(name for name in Policy.model_fields if name.endswith("_rule"))}
    fixed |= {"forget_sha256", "retain_sha256", "base_digest", "key_fingerprint", "policy_sha256", "manifest_sha256"}
    if isinstance(value, dict):
        if "condition" in value:
            fixed |= {"id"}
        return {k: v if k in fixed else poison(v, text) for k, v in value.items()}
    if isinstance(value, list):
        return [poison(item, text) for item in value]
    return text if isinstance(value, str) else value


def poisoned(name: str, text: str = HOSTILE) -> Result:
    return Result.model_validate_json(json.dumps(poison(load(name).model_dump(mode="json"), text)))


class Page(HTMLParser):
    """Collects tags, ids, references and text, and insists that every element is closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs), "an attribute appears twice"
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text.append(data)

    @property
    def ids(self) -> list[str]:
        return [attrs["id"] for _, attrs in self.tags if "id" in attrs]


@pytest.mark.parametrize("name", NAMES)
def test_renderings_are_as_recorded(name: str) -> None:
    result = load(name)
    for suffix, renderer in GOLDEN_FORMS.items():
        assert renderer(result) == (GOLDEN / f"report_{name}.{suffix}").read_text(encoding="utf-8")
    assert render_json(result) == (GOLDEN / f"report_{name}.json").read_text(encoding="utf-8")


@pytest.mark.parametrize("result", [*map(load, NAMES), *map(poisoned, NAMES)])
def test_page_is_well_formed_and_its_references_resolve(result: Result) -> None:
    page = Page(render_html(result))
    assert len(page.ids) == len(set(page.ids))
    named = [ref for _, a in page.tags for key in ("aria-labelledby",) for ref in (a.get(key) or "").split()]
    named += [a["href"].removeprefix("#") for tag, a in page.tags if tag == "a"]
    assert named
    assert set(named) <= set(page.ids)
    tags = [tag for tag, _ in page.tags]
    assert tags.count("h1") == tags.count("main") == 1
    assert tags.count("table") == tags.count("caption")
    assert all("scope" in attrs for tag, attrs in page.tags if tag == "th")
    figures = [attrs for tag, attrs in page.tags if tag == "svg" and attrs.get("role") == "img"]
    assert len(figures) == tags.count("desc")


@pytest.mark.parametrize("name", NAMES)
def test_page_runs_nothing_and_loads_nothing(name: str) -> None:
    html = render_html(load(name))
    page = Page(html)
    assert not {"script", "link", "img", "iframe", "object", "form", "use"} & {tag for tag, _ in page.tags}
    assert not any(key in {"src", "style"} or key.startswith("on") for _, attrs in page.tags for key in attrs)
    assert "http" not in html.replace('http-equiv="Content-Security-Policy"', "")
    assert "url(" not in html
    assert "@import" not in html


def test_policy_of_the_page_admits_its_own_style_only() -> None:
    html = render_html(load("pass_full"))
    style = re.search(r"<style>(.*?)</style>", html, re.DOTALL).group(1)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = next(a["content"] for tag, a in Page(html).tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith(f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:")


@pytest.mark.parametrize("name", NAMES)
def test_hostile_strings_are_shown_not_obeyed(name: str) -> None:
    html = render_html(poisoned(name))
    page = Page(html)
    clean_tags = {tag for tag, _ in Page(render_html(load(name))).tags}
    assert {tag for tag, _ in page.tags} <= clean_tags
    assert re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]", html) is None
    shown = '"><script>alert(1)</script>\u241b[2J\\u202e{{ 7*7 }}\\u0085<!--'
    assert sum(shown in text for text in page.text) > 10


@pytest.mark.parametrize("name", ["fail_static", "undecided_full"])
@pytest.mark.parametrize("render", [*GOLDEN_FORMS.values(), render_json])
def test_only_a_pass_says_so(name: str, render: Callable[[Result], str]) -> None:
    result = load(name)
    assert result.verdict in render(result)
    assert "PASS" not in render(result)
    assert "PASS" in render(load("pass_full"))


def test_verdict_stands_before_everything_else() -> None:
    for name in NAMES:
        result = load(name)
        words = " ".join(Page(render_html(result)).text).split()
        assert result.verdict in " ".join(words[:30])
        assert result.headline in " ".join(words[:80])


def test_failed_checks_stand_before_the_list_of_all() -> None:
    text = "".join(Page(render_html(load("fail_static"))).text)
    text = text[text.index("Needs attention") :]
    assert text.index("MV202") < text.index("MV203") < text.index("MV101")
    assert "Needs attention" not in "".join(Page(render_html(load("pass_full"))).text)


def test_every_threshold_of_the_policy_is_shown() -> None:
    policy = load("pass_full").policy
    assert {field for field, _, _ in policy_words.thresholds(policy)} == set(type(policy).model_fields)


def test_policy_and_probes_are_shown_with_their_origin() -> None:
    policy = Policy(
        level="own-probes",
        trusted_keys=(TrustedKey(fingerprint="a" * 64, path="keys/producer.pem"),),
        bases=(AllowedBase(name="the vendor's", files={"model.safetensors": "b" * 64}),),
    )
    used = ProbesUsed(origin="auditor", files=(FileDigest(name="choices.jsonl", sha256="c" * 64),))
    update = {"policy": policy, "probes": used, "level": "own-probes", "policy_source": "ours/policy.toml"}
    for pre_registration, said in policy_words.PRE_REGISTRATION.items():
        result = load("pass_full").model_copy(update={**update, "pre_registration": pre_registration})
        html = "".join(Page(render_html(result)).text)
        for text in (" ".join(html.split()), " ".join(render_text(result, width=400).split())):
            assert said in text
            assert "ours/policy.toml" in text
            assert result.policy_sha256 in text
            assert "the auditor's own" in text
        for shown in ("a" * 64, "b" * 64, "c" * 64, "the vendor's"):
            assert shown in html


def test_static_level_says_what_it_did_not_measure() -> None:
    text = "".join(Page(render_html(load("fail_static"))).text)
    assert text.count("Not measured: static checks run no model.") == 3
    assert "What was certified" not in text


def test_a_result_with_next_to_nothing_still_renders() -> None:
    result = load("fail_static").model_copy(
        update={"files": (), "provenance": None, "permanence": (), "checks": (), "manifest_sha256": None}
    )
    assert "No manifest was read." in render_html(result)
    assert render_text(result).startswith("FAIL")


@pytest.mark.parametrize("result", [*map(load, NAMES), *map(poisoned, NAMES), poisoned("pass_full", "###::##vso[x]")])
def test_json_round_trips_and_is_harmless_in_a_log(result: Result) -> None:
    rendered = render_json(result)
    assert Result.model_validate_json(rendered) == result
    assert rendered.isascii()
    assert rendered.endswith("}\n")
    assert "##" not in rendered
    assert not any(line.lstrip().startswith("::") for line in rendered.splitlines())


@pytest.mark.parametrize(
    ("trust", "words"),
    [
        ({"identity": "release@example.com"}, "certified for release@example.com under a root the user gave"),
        ({"signature": "invalid", "key_fingerprint": None}, "not by the identity the user gave"),
        ({"base_digest": "signed by the vendor"}, "the folder that the vendor's key signed"),
    ],
)
def test_whom_the_verdict_trusts_is_said(trust: dict[str, str | None], words: str) -> None:
    result = load("pass_full")
    changed = result.model_copy(update={"trust": result.trust.model_copy(update=trust)})
    assert words in " ".join(render_text(changed).split())
    assert words in " ".join("".join(Page(render_html(changed)).text).split())


def test_a_hostile_identity_is_harmless() -> None:
    result = load("pass_full")
    changed = result.model_copy(update={"trust": result.trust.model_copy(update={"identity": HOSTILE})})
    text = render_text(changed)
    assert "\x1b" not in text
    assert "<script>alert" not in render_html(changed)


if __name__ == "__main__":
    for each in NAMES:
        for suffix, renderer in GOLDEN_FORMS.items():
            (GOLDEN / f"report_{each}.{suffix}").write_text(renderer(load(each)), encoding="utf-8")
