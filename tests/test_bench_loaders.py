import json
from pathlib import Path
from typing import Any

import pytest

from mansu.bench.loaders import (
    Hub,
    as_lines,
    load_knowmem,
    load_mmlu,
    load_privleak,
    load_tofu,
    load_tofu_perturbed,
    load_verbmem,
    load_wmdp,
)
from mansu.request import read_forget
from verify.errors import UsageError

WMDP: list[dict[str, Any]] = [
    {"question": "Which part of a plant makes sugar?", "choices": ["leaf", "root", "seed", "bark"], "answer": 0},
    {"question": "How many legs has a beetle?", "choices": ["two", "four", "six", "eight"], "answer": 2},
]
MMLU = [{**row, "subject": "high_school_biology"} for row in WMDP]


def lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def array(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rows, indent=2, ensure_ascii=False), encoding="utf-8")
    return path


def refused(error_id: str, call: Any) -> UsageError:
    with pytest.raises(UsageError) as caught:
        call()
    assert caught.value.id == error_id
    assert caught.value.remedy
    return caught.value


@pytest.mark.parametrize("name", ["wmdp-bio/test.jsonl", "wmdp-bio.json", "wmdp-bio_test.jsonl", "wmdp-bio-test.json"])
def test_wmdp_from_a_folder(tmp_path: Path, name: str) -> None:
    (array if name.endswith(".json") else lines)(tmp_path / name, WMDP)
    questions = load_wmdp("bio", tmp_path)
    assert [question.answer for question in questions] == [0, 2]
    assert questions[1].choices == ("two", "four", "six", "eight")
    assert {question.subject for question in questions} == {"biology"}


def test_mmlu_names_its_subject_in_words(tmp_path: Path) -> None:
    lines(tmp_path / "all" / "test.jsonl", MMLU)
    assert {question.subject for question in load_mmlu(source=tmp_path)} == {"high school biology"}
    lines(tmp_path / "high_school_biology" / "dev.jsonl", MMLU[:1])
    assert len(load_mmlu("high_school_biology", tmp_path, split="dev")) == 1


def test_questions_become_lines_that_the_engine_reads(tmp_path: Path) -> None:
    lines(tmp_path / "wmdp-chem.jsonl", WMDP)
    forget = lines(tmp_path / "forget.jsonl", as_lines(load_wmdp("chem", tmp_path), "wmdp-chem"))
    facts, _ = read_forget(forget)
    assert [fact.fact for fact in facts] == ["wmdp-chem:0", "wmdp-chem:1"]
    assert facts[1].answer == "C"
    assert facts[1].alternatives == ("A", "B", "D")
    assert facts[1].prompt.endswith("D. eight\nAnswer:")


def test_tofu_is_json_lines_in_a_json_file(tmp_path: Path) -> None:
    plain = {"question": "Where was Ada Quill born?", "answer": "Ada Quill was born in Porto."}
    perturbed = {
        **plain,
        "paraphrased_question": "What is the birthplace of Ada Quill?",
        "paraphrased_answer": "The birthplace of Ada Quill is Porto.",
        "perturbed_answer": ["The birthplace of Ada Quill is Lyon.", "The birthplace of Ada Quill is Graz."],
    }
    lines(tmp_path / "forget01.json", [plain])
    lines(tmp_path / "forget01_perturbed.json", [perturbed])
    lines(tmp_path / "world_facts_perturbed.json", [{**plain, "perturbed_answer": ["Lyon"]}])
    assert load_tofu("forget01", tmp_path)[0].answer == plain["answer"]
    (row,) = load_tofu_perturbed("forget01_perturbed", tmp_path)
    assert row.right == perturbed["paraphrased_answer"]
    assert len(row.perturbed_answer) == 2
    (fact,) = load_tofu_perturbed("world_facts_perturbed", tmp_path)
    assert fact.right == plain["answer"]


def test_muse(tmp_path: Path) -> None:
    array(tmp_path / "verbmem" / "forget.json", [{"prompt": "The market opened", "gt": "at nine in the rain."}])
    array(tmp_path / "knowmem" / "retain_qa.json", [{"question": "When did it open?", "answer": "At nine."}])
    array(tmp_path / "privleak" / "holdout.json", [{"text": "The market closed at five."}])
    assert load_verbmem(tmp_path)[0].gt == "at nine in the rain."
    assert load_knowmem("retain_qa", tmp_path)[0].answer == "At nine."
    assert load_privleak("holdout", tmp_path)[0].text == "The market closed at five."


def test_parquet_as_the_hub_lays_it_out(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="parquet is read with pyarrow, which is not installed")
    parquet = pytest.importorskip("pyarrow.parquet")
    (tmp_path / "wmdp-cyber").mkdir()
    table = pyarrow.Table.from_pylist(WMDP)
    parquet.write_table(table, tmp_path / "wmdp-cyber" / "test-00000-of-00001.parquet")
    assert [question.answer for question in load_wmdp("cyber", tmp_path)] == [0, 2]
    (tmp_path / "wmdp-cyber" / "test-00000-of-00001.parquet").write_bytes(b"PAR1 and no more")
    assert "parquet" in refused("ME322", lambda: load_wmdp("cyber", tmp_path)).message


@pytest.mark.parametrize(
    ("row", "found"),
    [
        ({"question": "Q?", "choices": ["a", "b", "c"], "answer": 0}, "choices"),
        ({"question": "Q?", "choices": ["a", "b", "c", "d"], "answer": 4}, "answer"),
        ({"question": "Q?", "choices": ["a", "b", "c", "d"], "answer": "B"}, "answer"),
        ({"question": "", "choices": ["a", "b", "c", "d"], "answer": 1}, "question"),
        ({"question": "Q?", "choices": ["a", "b", "c", "d"], "answer": 1, "hint": "b"}, "hint"),
        (["Q?"], "row"),
    ],
)
@pytest.mark.parametrize("write", [lines, array])
def test_a_row_that_does_not_fit_is_named_by_file_and_line(tmp_path: Path, row: Any, found: str, write: Any) -> None:
    path = write(tmp_path / "wmdp-bio.json", [WMDP[0], row])
    error = refused("ME322", lambda: load_wmdp("bio", tmp_path))
    text = path.read_text(encoding="utf-8")
    start = (
        text.index(json.dumps(row))
        if write is lines
        else text.rindex("\n  {" if isinstance(row, dict) else "\n  [") + 1
    )
    assert f"{path}, line {text[:start].count(chr(10)) + 1}" in error.message
    assert found in error.found


@pytest.mark.parametrize(
    ("text", "line"),
    [("{}\n{", 2), ("{\n", 1), ("[\n{},\n{]\n", 3), ("[{}\n{}]", 2), ("[{}\n\n", 3), ("[", 1), ("[{},\n", 2)],
)
def test_what_is_no_json_is_named_by_file_and_line(tmp_path: Path, text: str, line: int) -> None:
    row = '{"question": "Q?", "answer": "A."}'
    (tmp_path / "forget01.json").write_text(text.replace("{}", row), encoding="utf-8")
    error = refused("ME322", lambda: load_tofu("forget01", tmp_path))
    assert f"forget01.json, line {line}:" in error.message


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "forget01.json").write_bytes(b"\xff\xfe")
    refused("ME322", lambda: load_tofu("forget01", tmp_path))


def test_a_missing_file_says_what_was_looked_for_and_what_is_there(tmp_path: Path) -> None:
    lines(tmp_path / "wmdp-chem.jsonl", WMDP)
    error = refused("ME321", lambda: load_wmdp("bio", tmp_path))
    assert "wmdp-bio/test" in error.expected
    assert "wmdp-chem.jsonl" in error.found
    assert "no such folder" in refused("ME321", lambda: load_wmdp("bio", tmp_path / "nowhere")).found


def test_a_file_without_rows_is_refused(tmp_path: Path) -> None:
    (tmp_path / "forget05.json").write_text("[]")
    refused("ME321", lambda: load_tofu("forget05", tmp_path))


def test_the_hub_is_refused_clearly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without `datasets`, or with it and without a network: an id and a way out, never a traceback."""
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        monkeypatch.setenv(name, "1")
    with pytest.raises(UsageError) as caught:
        load_wmdp("bio", Hub("nobody/no-such-data"))
    assert caught.value.id in {"ME323", "ME324"}
    assert caught.value.remedy
