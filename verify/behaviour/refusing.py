"""What libraries raise on a hostile model folder, turned into a refusal (MV106).

Tokenizers are Rust: what it did not foresee is a panic, which Python sees as a `BaseException`, and which no
`except Exception` catches. A tokenizer.json may be built so that loading it panics, or using it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from verify.errors import ArtefactError, MansuError


@contextmanager
def refusing(what: str) -> Iterator[None]:
    """Raise `ArtefactError` MV106, saying `what`, for all that is raised while the context is open but for our own."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit, MansuError):
        raise
    except BaseException as error:
        raise unusable(what, first_line(error)) from error


class GuardedTokenizer:
    """A tokenizer whose calls refuse the folder where they fail; all else is the tokenizer's own."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """Tokenize; raises `ArtefactError` MV106 where the tokenizer breaks."""
        with refusing("its tokenizer cannot be used"):
            return self._tokenizer(*arguments, **named)

    def __getattr__(self, name: str) -> Any:
        """Return the tokenizer's own attribute."""
        if name == "_tokenizer":  # not there yet: a copy asks before it is filled
            raise AttributeError(name)
        return getattr(self._tokenizer, name)


def first_line(error: BaseException) -> str:
    """Return what an error says first, in ASCII: it may quote the folder."""
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return line.encode("ascii", "backslashreplace").decode()


def unusable(what: str, found: str) -> ArtefactError:
    """Return MV106 for a model folder."""
    return ArtefactError(
        "MV106",
        f"the model folder cannot be used: {what}",
        expected="a Hugging Face causal-LM folder of a supported architecture, weights in safetensors, no code",
        found=found,
        remedy="do not deploy this folder; ask the producer for one that loads without code",
    )
