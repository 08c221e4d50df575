import math

import numpy as np
import pytest
import torch
from test_bench_authors import tokenizer
from torch import nn
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from mansu.bench.completions import ask, complete, greedy, mean_log_probabilities
from mansu.bench.loaders import Perturbed
from mansu.bench.tofu import (
    SetScores,
    Utility,
    forget_quality,
    model_utility,
    rouge_l_recalls,
    set_scores,
    truth_ratios,
)
from verify.errors import UsageError

ROWS = [
    Perturbed(
        question="Where was Ada born ?",
        answer="Ada was born in Porto",
        paraphrased_answer="The birthplace is Porto",
        perturbed_answer=("The birthplace is Lyon", "The birthplace is old Graz"),
    ),
    Perturbed(question="Who wrote it ?", answer="Ada", perturbed_answer=("Bo", "Cy", "old Bo")),
]


@pytest.fixture(scope="module")
def encode() -> PreTrainedTokenizerFast:
    texts = [text for row in ROWS for text in (ask(row.question), row.answer, row.right, *row.perturbed_answer)]
    return tokenizer(texts)


@pytest.fixture(scope="module")
def model(encode: PreTrainedTokenizerFast) -> nn.Module:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(encode),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=64,
        initializer_range=0.3,
    )
    return LlamaForCausalLM(config).eval()


def plain(model: nn.Module, encode: PreTrainedTokenizerFast, question: str, answer: str) -> float:
    """P(a | q)^(1/|a|), one token at a time; the end of the text is a token of the answer."""
    prompt = encode(ask(question))["input_ids"]
    ids = encode(f"{ask(question)} {answer}")["input_ids"] + [encode.eos_token_id]
    log = 0.0
    with torch.no_grad():
        for position in range(len(prompt), len(ids)):
            logits = model(input_ids=torch.tensor([ids[:position]])).logits[0, -1]
            log += float(logits.log_softmax(-1)[ids[position]])
    return math.exp(log / (len(ids) - len(prompt)))


def test_mean_log_probabilities_are_those_of_one_text_at_a_time(
    model: nn.Module, encode: PreTrainedTokenizerFast
) -> None:
    pairs = [(ask(row.question), text) for row in ROWS for text in (row.answer, *row.perturbed_answer)]
    found = mean_log_probabilities(model, complete(encode, pairs * 4))
    wanted = [
        math.log(plain(model, encode, row.question, t)) for row in ROWS for t in (row.answer, *row.perturbed_answer)
    ]
    assert found == pytest.approx(np.array(wanted * 4), abs=1e-5)


def test_truth_ratio_is_the_geometric_mean_of_wrong_answers_over_the_right_one(
    model: nn.Module, encode: PreTrainedTokenizerFast
) -> None:
    wanted = []
    for row in ROWS:
        wrong = [plain(model, encode, row.question, text) for text in row.perturbed_answer]
        wanted.append(math.prod(wrong) ** (1 / len(wrong)) / plain(model, encode, row.question, row.right))
    assert truth_ratios(model, encode, ROWS) == pytest.approx(np.array(wanted), rel=1e-4)


def test_scores_of_a_set(model: nn.Module, encode: PreTrainedTokenizerFast) -> None:
    pytest.importorskip("rouge_score", reason="ROUGE comes from rouge-score, which is not installed")
    right = [plain(model, encode, row.question, row.answer) for row in ROWS]
    wrong = [[plain(model, encode, row.question, text) for text in row.perturbed_answer] for row in ROWS]
    told = [plain(model, encode, row.question, row.right) for row in ROWS]
    as_is = set_scores(model, encode, ROWS, normalized=False, tokens=4)
    share = set_scores(model, encode, ROWS, normalized=True, tokens=4)
    assert as_is.probability == pytest.approx(np.mean(right), rel=1e-4)
    shares = [a / (a + sum(b)) for a, b in zip(right, wrong, strict=True)]
    assert share.probability == pytest.approx(np.mean(shares), rel=1e-4)
    ratios = [max(0.0, 1 - float(np.mean(b)) / a) for a, b in zip(told, wrong, strict=True)]
    assert as_is.truth_ratio == share.truth_ratio == pytest.approx(np.mean(ratios), rel=1e-3, abs=1e-5)
    said = greedy(model, encode, [ask(row.question) for row in ROWS], tokens=4)
    assert as_is.rouge_l_recall == pytest.approx(np.mean(rouge_l_recalls(said, [row.answer for row in ROWS])))
    everything = model_utility(model, encode, retain=ROWS, real_authors=ROWS, world_facts=ROWS, tokens=4)
    assert (everything.retain, everything.real_authors, everything.world_facts) == (as_is, share, share)


def test_rouge_l_recall_is_the_longest_common_subsequence_over_the_reference() -> None:
    pytest.importorskip("rouge_score", reason="ROUGE comes from rouge-score, which is not installed")
    found = rouge_l_recalls(["the cat sat there", "nothing", "Dogs!"], ["The cat often sat", "something", "a dog"])
    assert found == pytest.approx([3 / 4, 0, 1 / 2])


def test_utility_is_the_harmonic_mean_of_nine() -> None:
    scores = [SetScores(0.5, 0.25, 1.0), SetScores(0.5, 0.5, 0.5), SetScores(1.0, 1.0, 1.0)]
    assert Utility(*scores).harmonic_mean == pytest.approx(9 / (2 + 4 + 1 + 2 + 2 + 2 + 1 + 1 + 1))
    assert Utility(scores[0], scores[1], SetScores(0.0, 1.0, 1.0)).harmonic_mean == 0


def test_forget_quality_tells_models_apart() -> None:
    pytest.importorskip("scipy", reason="the test comes from scipy, which is not installed")
    rng = np.random.default_rng(0)
    retained = rng.lognormal(0.0, 0.5, 80)
    assert forget_quality(retained, retained).p_value == pytest.approx(1)
    knowing = forget_quality(retained * 0.2, retained)
    assert knowing.p_value < 1e-6
    assert knowing.statistic > 0.5
    # the code of TOFU tests the reciprocals
    assert forget_quality(1 / (retained * 0.2), 1 / retained).p_value == pytest.approx(knowing.p_value)


def test_without_questions_there_is_no_score(model: nn.Module, encode: PreTrainedTokenizerFast) -> None:
    with pytest.raises(UsageError) as caught:
        truth_ratios(model, encode, [])
    assert caught.value.id == "ME321"


def test_greedy_takes_the_likeliest_token_each_time(model: nn.Module, encode: PreTrainedTokenizerFast) -> None:
    (said,) = greedy(model, encode, ["Where was Ada"], tokens=3)
    ids = encode("Where was Ada")["input_ids"]
    with torch.no_grad():
        for _ in range(3):
            ids.append(int(functional.log_softmax(model(input_ids=torch.tensor([ids])).logits[0, -1], -1).argmax()))
            if ids[-1] == encode.eos_token_id:
                break
    assert said == encode.decode(ids[3:], skip_special_tokens=True)
