"""What a tokenizer.json must not ask for: other tokens at each call, or time and memory without measure.

Tokenizers run in Rust, where Python cannot interrupt them: text that grows without end aborts the whole process, and a
walk over all pairs of positions never ends. So they are refused by what their file says (docs/checks/MV106.md).
"""

import base64
import binascii
import json
from collections.abc import Iterator, Mapping
from math import prod

from verify.behaviour.inert import distinct, objects, refused

TOKENIZER = "tokenizer.json"
LARGEST_GROWTH = 256
"""Characters that normalizing may make of one."""
LONGEST_PIECE = 1024
"""Characters of a word that WordPiece may take apart, and of a piece of a Unigram vocabulary."""


def refuse_unbounded(files: Mapping[str, bytes]) -> None:
    """Raise ArtefactError MV106 for a tokenizer.json that is random, or works out of proportion to its input."""
    if TOKENIZER not in files:
        return
    try:
        value = json.loads(files[TOKENIZER].decode("utf-8"), object_pairs_hook=distinct)
    except (ValueError, RecursionError) as error:
        raise refused("its tokenizer is not JSON with one reading", TOKENIZER) from error
    model = _object(_object(value).get("model"))
    if model.get("dropout"):
        raise refused("its tokenizer leaves merges out at random, so that no answer can be repeated", TOKENIZER)
    longest = model.get("max_input_chars_per_word", 0)
    if not isinstance(longest, int) or longest > LONGEST_PIECE:
        raise refused(f"its tokenizer takes words of {longest!a} characters apart", TOKENIZER)
    if any(len(piece) > LONGEST_PIECE for piece in _pieces(model)):
        raise refused(f"its tokenizer has pieces of more than {LONGEST_PIECE:,} characters", TOKENIZER)
    if growth(value) > LARGEST_GROWTH:
        raise refused("its tokenizer makes texts grow without measure", TOKENIZER)


def growth(value: object) -> int:
    """Return how many characters the normalizers of a parsed tokenizer.json together make of one, at most."""
    return prod(max(1, _longest(part)) for part in objects(_object(value).get("normalizer")))


def _longest(part: dict[str, object]) -> int:
    """Return the characters that one normalizer may put in the place of one."""
    content, charsmap = part.get("content"), part.get("precompiled_charsmap")
    if isinstance(content, str):
        return len(content)
    if isinstance(charsmap, str):
        try:
            data = base64.b64decode(charsmap, validate=True)
        except (binascii.Error, ValueError) as error:
            raise refused("its tokenizer's character map is no base64", TOKENIZER) from error
        # sentencepiece: the size of a trie, the trie, and the replacements, each ended by a zero byte
        replacements = data[4 + int.from_bytes(data[:4], "little") :].split(b"\0")
        return max(len(each) for each in replacements)
    return 1


def _pieces(model: Mapping[str, object]) -> Iterator[str]:
    """Yield the pieces of a Unigram vocabulary, which is a list of piece and score."""
    vocabulary = model.get("vocab")
    for entry in vocabulary if isinstance(vocabulary, list) else ():
        if isinstance(entry, list) and entry and isinstance(entry[0], str):
            yield entry[0]


def _object(value: object) -> dict[str, object]:
    return value if isinstance(value, dict) else {}
