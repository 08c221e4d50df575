"""The fuzz targets in small: the corpus is replayed, hypothesis spoils it, and atheris itself runs for a moment."""

import json
import subprocess
import sys
from pathlib import Path

import certificates as c
import corpus
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from run import summary
from targets import TARGETS, framed

from verify.check import check
from verify.errors import UsageError

RUN = Path(__file__).parent / "run.py"
LOOSE = settings(deadline=None, suppress_health_check=list(HealthCheck))
INPUTS = {target: corpus.read(target) for target in TARGETS}


@pytest.mark.parametrize("target", TARGETS)
def test_the_corpus_holds(target: str) -> None:
    assert len(INPUTS[target]) >= 3
    for name, data in INPUTS[target].items():
        assert len(data) <= corpus.LARGEST
        accepted = TARGETS[target](data)
        assert accepted or not name.startswith("good"), name
    assert any(TARGETS[target](data) for data in INPUTS[target].values())


def spoilt(data: bytes, edits: list[tuple[float, str, bytes]]) -> bytes:
    """Return bytes after some were replaced, inserted, removed or doubled, each at a place given as a share."""
    for share, how, piece in edits:
        at = int(share * len(data))
        if how == "replace":
            data = data[:at] + piece + data[at + len(piece) :]
        elif how == "insert":
            data = data[:at] + piece + data[at:]
        elif how == "remove":
            data = data[:at] + data[at + len(piece) :]
        else:
            data = data[:at] + data[at : at + 8 * len(piece)] * 2 + data[at + 8 * len(piece) :]
    return data


WORDS = [
    word.strip()[1:-1].replace('\\"', '"').encode()
    for word in (RUN.parent / "words.dict").read_text().splitlines()
    if word.startswith('"')
]
EDITS = st.lists(
    st.tuples(
        st.floats(0, 1),
        st.sampled_from(["replace", "insert", "remove", "double"]),
        st.binary(min_size=1, max_size=8) | st.sampled_from(WORDS),
    ),
    min_size=1,
    max_size=4,
)


@pytest.mark.parametrize("target", TARGETS)
@given(data=st.data())
@settings(LOOSE, max_examples=150)
def test_spoilt_inputs_are_refused_by_name_or_hold(target: str, data: st.DataObject) -> None:
    chosen = data.draw(st.sampled_from(sorted(INPUTS[target])))
    TARGETS[target](spoilt(INPUTS[target][chosen], data.draw(EDITS)))


NUMBERS = st.integers(-2, 9) | st.sampled_from([2**31, 2**63, 2**64, 10**30]) | st.floats() | st.booleans()
ENTRIES = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["U8", "BF16", "F32", "I64", "F4", ""]) | NUMBERS,
        "shape": st.lists(NUMBERS, max_size=3) | NUMBERS,
        "data_offsets": st.lists(NUMBERS, max_size=3) | NUMBERS,
    },
    optional={"x": NUMBERS},
)
HEADERS = st.lists(
    st.tuples(st.sampled_from(["w", "v", "w.indices", "w.base", "__metadata__", ""]), ENTRIES), max_size=4
)


@given(HEADERS)
@settings(LOOSE, max_examples=300)
def test_headers_of_any_entries_are_refused_by_name_or_hold(entries: list[tuple[str, dict]]) -> None:
    """Names may come twice, as no dictionary could hold them."""
    text = ",".join(f"{json.dumps(name)}:{json.dumps(entry)}" for name, entry in entries)
    for target in ("header", "ledger"):
        TARGETS[target](f"{{{text}}}".encode())


@given(
    st.recursive(
        st.none() | NUMBERS | st.text(max_size=5),
        lambda part: st.lists(part) | st.dictionaries(st.text(max_size=3), part),
    )
)
@settings(LOOSE, max_examples=200)
def test_any_json_is_refused_by_name_or_holds(value: object) -> None:
    for target in TARGETS:
        TARGETS[target](json.dumps(value).encode())


@given(st.data())
@settings(LOOSE, max_examples=40)
def test_a_spoilt_certificate_never_passes(
    tiny_certificate: c.Certificate, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    made = tiny_certificate.copied_to(tmp_path_factory.mktemp("spoilt") / "out")
    name = data.draw(st.sampled_from(["m.json", "ledger.safetensors", "model/model.safetensors", "model/config.json"]))
    before = (made.out / name).read_bytes()
    after = spoilt(before, data.draw(EDITS))
    (made.out / name).write_bytes(after)
    try:
        verdict = check(made.out / "model", made.manifest, keys=[made.keys.public], level="static").verdict
    except UsageError:
        return
    assert verdict == ("PASS" if after == before else "FAIL")


def test_framed_text_is_a_file_of_its_own() -> None:
    text = b'{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'
    assert framed(text) == len(text).to_bytes(8, "little") + text + bytes(8)
    assert TARGETS["header"](text)


def test_atheris_runs_a_target_and_its_figures_are_read(tmp_path: Path) -> None:
    line = [sys.executable, RUN, "index", "--runs", "500", "--timeout", "60", "--out", tmp_path]
    run = subprocess.run([*map(str, line)], capture_output=True, text=True, check=False, timeout=120)
    assert run.returncode == 0, (tmp_path / "index.log").read_text()[-2000:]
    assert "no find" in run.stdout
    assert "500 runs" in run.stdout
    assert list((tmp_path / "index.found").iterdir()) == []


def test_a_find_is_not_called_none() -> None:
    log = "cov: 12 ft: 3\nstat::number_of_executed_units: 2000\nstat::peak_rss_mb: 80\n"
    assert "FIND, exit 77" in summary("x", log, 2.0, 77)
    assert "1,000/s" in summary("x", log, 2.0, 0)
