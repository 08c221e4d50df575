"""All ways of asking, of one model."""

from collections.abc import Sequence

from mansu.bench.robust import choices, few_shot, languages, open_answers, paraphrases
from mansu.bench.robust.cloze import ask, source, wordings
from mansu.bench.robust.results import Answers, RobustRow
from mansu.bench.robust.translations import Tongue
from mansu.request import Request
from verify.behaviour.loading import Language


def spoken_languages(base: Language, request: Request, suite: str, *, seed: int) -> tuple[Tongue, ...]:
    """Return the languages in which the base knows a suite's facts, to ask every model in them."""
    return languages.spoken(base, source(request, seed=seed), suite)


def robust_answers(
    language: Language, request: Request, *, suite: str | None, tongues: Sequence[Tongue], seed: int, most: int = 100
) -> tuple[Answers, ...]:
    """Ask a model about the facts that were to be forgotten, in every way; at most `most` probes each.

    The facts are those trained on. The questions depend on the request, the suite, `tongues`, the seed and the
    tokenizer alone, so that models can be compared probe by probe (`differences`). `tongues` are those of the base
    (`spoken_languages`): a model that forgot must not choose its own. Left out are paraphrases and other languages
    without a suite, other languages where `tongues` is empty, and what no fact can be asked in.

    Raises `UsageError` ME320 (no such suite), ME355 (nothing held out that can be asked).
    """
    asked = source(request, seed=seed, most=most)
    probes = [wordings(asked)]
    if suite is not None:
        probes.append(paraphrases.paraphrases(asked, suite))
        if tongues:
            probes.append(languages.languages(asked, suite, tongues, language.tokenizer))
    probes.append(few_shot.few_shot(asked, language.tokenizer))
    found = [ask(language, one) for one in probes if one.facts]
    if lettered := choices.questions(asked, suite):
        found.append(choices.choose(language, lettered))
    found.append(open_answers.answer_openly(language, open_answers.open_questions(asked)))
    return tuple(found)


def robust_rows(
    language: Language, request: Request, *, suite: str | None, tongues: Sequence[Tongue], seed: int, most: int = 100
) -> tuple[RobustRow, ...]:
    """Return the rows of `robust_answers`, whose parameters and errors these are."""
    found = robust_answers(language, request, suite=suite, tongues=tongues, seed=seed, most=most)
    return tuple(answers.row() for answers in found)
