import math

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Metaspace
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from mansu.bench.letters import LETTERS, LetterScore, accuracy, letter_prompt, letter_scores
from mansu.bench.loaders import Question

QUESTIONS = [
    Question("Which animal barks? ", ("cat", "dog", "hen", "owl"), 1, "animals"),
    Question("Which one is a bird that hoots at night?", ("cat", "dog", "hen", "owl"), 3, "animals"),
]


def tokenizer() -> PreTrainedTokenizerFast:
    words = ["▁" + word for word in " ".join(letter_prompt(question) for question in QUESTIONS).split()]
    vocabulary = ["[UNK]", *dict.fromkeys([*words, *("▁" + letter for letter in LETTERS)])]
    plain = Tokenizer(WordLevel({word: number for number, word in enumerate(vocabulary)}, unk_token="[UNK]"))
    plain.pre_tokenizer = Metaspace()
    return PreTrainedTokenizerFast(tokenizer_object=plain, unk_token="[UNK]")


def model(positions: int = 128) -> nn.Module:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer()),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=positions,
    )
    return LlamaForCausalLM(config).eval()


def test_the_prompt_is_the_harness_s() -> None:
    assert letter_prompt(QUESTIONS[0]) == (
        "The following are multiple choice questions (with answers) about animals.\n\n"
        "Which animal barks?\nA. cat\nB. dog\nC. hen\nD. owl\nAnswer:"
    )


def test_log_probabilities_are_those_after_the_prompt() -> None:
    encode, net = tokenizer(), model()
    for question, score in zip(QUESTIONS, letter_scores(net, encode, QUESTIONS), strict=True):
        with torch.no_grad():
            ids = torch.tensor([encode.encode(letter_prompt(question))])
            expected = net(input_ids=ids).logits[0, -1].log_softmax(-1)
        letters = [encode.convert_tokens_to_ids("▁" + letter) for letter in LETTERS]
        assert score.log_probabilities == pytest.approx([float(expected[i]) for i in letters], abs=1e-5)
        assert score.mass == pytest.approx(float(expected[letters].exp().sum()), abs=1e-5)
        assert score.answer == question.answer


def test_a_letter_of_several_tokens_counts_whole() -> None:
    """Of a tokenizer that writes the space and the letter apart, both are the continuation, as in the harness."""

    class Apart:
        def encode(self, text: str) -> list[int]:
            return [2 if mark == " " else 3 + "ABCD".find(mark) + 1 for mark in text]

    net = model()
    (score,) = letter_scores(net, Apart(), QUESTIONS[:1])
    ids = Apart().encode(letter_prompt(QUESTIONS[0]))[-128 + 1 :]
    with torch.no_grad():
        first = net(input_ids=torch.tensor([[*ids, 2]])).logits[0].log_softmax(-1)
    context = len(ids)
    expected = [float(first[context - 1, 2] + first[context, 3 + i + 1]) for i in range(4)]
    assert score.log_probabilities == pytest.approx(expected, abs=1e-4)


def test_a_prompt_too_long_loses_its_beginning() -> None:
    encode, short = tokenizer(), model(positions=12)
    ids = encode.encode(letter_prompt(QUESTIONS[0]))
    assert len(ids) > 12
    (score,) = letter_scores(short, encode, QUESTIONS[:1])
    with torch.no_grad():
        expected = short(input_ids=torch.tensor([ids[-12:]])).logits[0, -1].log_softmax(-1)
    letters = [encode.convert_tokens_to_ids("▁" + letter) for letter in LETTERS]
    assert score.log_probabilities == pytest.approx([float(expected[i]) for i in letters], abs=1e-5)


def test_of_equal_letters_the_first_is_chosen_and_accuracy_counts_right_ones() -> None:
    tied = LetterScore((-1.0, -0.5, -0.5, -2.0), 1)
    wrong = LetterScore((-1.0, -3.0, -3.0, -3.0), 2)
    assert tied.choice == 1
    assert tied.right
    assert not wrong.right
    assert accuracy([tied, wrong]) == 0.5
    assert wrong.mass == pytest.approx(math.exp(-1) + 3 * math.exp(-3))
