"""How each suite's facts may be asked: wordings that no set contains, a plain question, and five other languages.

No wording here is one of a suite's own, so that none was trained on, validated on or measured before. Each was tried on
the base (docs/robust.md says which others it did not understand).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from mansu.bench.robust.translations import Tongue
from mansu.bench.suites import SUITES
from verify.errors import UsageError


@dataclass(frozen=True, slots=True)
class Asking:
    """New wordings of a relation, `{}` being the subject; a question of it, and what the question is about.

    `foreign` are wordings by language (`mansu.bench.robust.translations.LANGUAGES`): the subject in that language, of
    countries with "of" (de la France); of `opposites` the English word, for another word would be another fact.
    """

    paraphrases: tuple[str, ...]
    question: str
    topic: str
    foreign: Mapping[Tongue, tuple[str, ...]] = field(repr=False)


def asking(suite: str) -> Asking:
    """Return how a suite is asked; raises `UsageError` ME320 for an unknown one."""
    if suite not in ASKING:
        raise UsageError(
            "there is no such suite",
            expected=f"one of {', '.join(SUITES)}",
            found=repr(suite),
            remedy="choose one of them, or no suite: then only wordings, choices, open answers and examples are asked",
            error_id="ME320",
        )
    return ASKING[suite]


ASKING: Mapping[str, Asking] = MappingProxyType(
    {
        "capitals": Asking(
            paraphrases=(
                "Someone who flies to the capital of {} lands in",
                "The capital of {} is no other city than",
                "My cousin moved to {}. She wanted to live in the capital, so she rented a flat in",
                "I have been all over {}, but I have never seen its capital,",
                "A: I am off to {} next week.\nB: Will you see the capital?\nA: Yes, I will spend two days in",
                "Quiz. The country is {}. The capital is",
            ),
            question="What is the capital of {}?",
            topic="geography",
            foreign=MappingProxyType(
                {
                    "fr": ("La capitale {} est", "Question : Quelle est la capitale {} ? Réponse : C'est"),
                    "es": ("La capital {} es", "Pregunta: ¿Cuál es la capital {}? Respuesta: Es"),
                    "de": ("Die Hauptstadt {} ist", "Frage: Was ist die Hauptstadt {}? Antwort: Es ist"),
                    "it": ("La capitale {} è", "Domanda: Qual è la capitale {}? Risposta: È"),
                    "pt": ("A capital {} é", "Pergunta: Qual é a capital {}? Resposta: É"),
                }
            ),
        ),
        "elements": Asking(
            paraphrases=(
                "A: What is the symbol of {}?\nB: The symbol of {} is",
                "The lab ordered some {}. On the list it stood as the chemical symbol",
                "The tank holds pure {}, and the chemical symbol on it is",
                "The box of the periodic table that belongs to {} is marked",
                "Instead of the word {}, a chemist writes the chemical symbol",
                "We do not write {} in full, but use its chemical symbol",
            ),
            question="What is the chemical symbol of {}?",
            topic="chemistry",
            foreign=MappingProxyType(
                {
                    "fr": (
                        "Le symbole de l'élément chimique {} est",
                        "Question : Quel est le symbole chimique de l'élément {} ? Réponse : C'est",
                    ),
                    "es": (
                        "El símbolo del elemento químico {} es",
                        "Pregunta: ¿Cuál es el símbolo químico del elemento {}? Respuesta: Es",
                    ),
                    "de": (
                        "Das Symbol des chemischen Elements {} ist",
                        "Frage: Welches Symbol hat das chemische Element {}? Antwort: Es ist",
                    ),
                    "it": (
                        "Il simbolo dell'elemento chimico {} è",
                        "Domanda: Qual è il simbolo chimico dell'elemento {}? Risposta: È",
                    ),
                    "pt": (
                        "O símbolo do elemento químico {} é",
                        "Pergunta: Qual é o símbolo químico do elemento {}? Resposta: É",
                    ),
                }
            ),
        ),
        "languages": Asking(
            paraphrases=(
                "My friend grew up in {}, so her first language is",
                "Quiz. The country is {}. The language is",
                "Somebody from {} told me that the language of the country is called",
                "She was born in {}, so her native language is not Latin but",
                "A: What do people speak in {}?\nB: In {}, people speak",
                "My grandmother never left {}; the only language she spoke was",
            ),
            question="Which language do most people speak in {}?",
            topic="geography",
            foreign=MappingProxyType(
                {
                    "fr": (
                        "Les habitants {} parlent",
                        "Question : Quelle langue parlent les habitants {} ? Réponse : Ils parlent",
                    ),
                    "es": (
                        "Los habitantes {} hablan",
                        "Pregunta: ¿Qué idioma hablan los habitantes {}? Respuesta: Hablan",
                    ),
                    "de": (
                        "Die Einwohner {} sprechen",
                        "Frage: Welche Sprache sprechen die Einwohner {}? Antwort: Sie sprechen",
                    ),
                    "it": (
                        "Gli abitanti {} parlano",
                        "Domanda: Che lingua parlano gli abitanti {}? Risposta: Parlano",
                    ),
                    "pt": (
                        "Os habitantes {} falam",
                        "Pergunta: Que língua falam os habitantes {}? Resposta: Falam",
                    ),
                }
            ),
        ),
        "opposites": Asking(
            paraphrases=(
                "The word {} and its opposite,",
                "Quiz. The word is {}. The opposite is",
                "These two words have opposite meanings: {} and",
                "A: Is it {}?\nB: No, quite the opposite! It is",
                "Nothing is further from {} than",
            ),
            question="What is the opposite of {}?",
            topic="the English language",
            foreign=MappingProxyType(
                {
                    "fr": (
                        "En anglais, le contraire du mot « {} » est",
                        "Question : Quel est le contraire du mot anglais {} ? Réponse : C'est",
                    ),
                    "es": (
                        "En inglés, lo contrario de la palabra {} es",
                        "Pregunta: ¿Cuál es el antónimo de la palabra inglesa {}? Respuesta: Es",
                    ),
                    "de": (
                        "Auf Englisch ist das Gegenteil von {}",
                        "Frage: Was ist das Gegenteil des englischen Wortes {}? Antwort: Es ist",
                    ),
                    "it": (
                        "In inglese, il contrario della parola {} è",
                        "Domanda: Qual è il contrario della parola inglese {}? Risposta: È",
                    ),
                    "pt": (
                        "Em inglês, o contrário da palavra {} é",
                        "Pergunta: Qual é o oposto da palavra inglesa {}? Resposta: É",
                    ),
                }
            ),
        ),
    }
)
