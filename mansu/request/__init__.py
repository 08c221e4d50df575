"""The request: what to forget, what to keep, and the split into what is trained on and what is only measured."""

from mansu.request.facts import Fact, pools, require_answer_tokens, require_choices
from mansu.request.reading import Request, read_forget, read_request, read_retain, require_held_out, require_tokens
from mansu.request.splitting import Split, halves

__all__ = [
    "Fact",
    "Request",
    "Split",
    "halves",
    "pools",
    "read_forget",
    "read_request",
    "read_retain",
    "require_answer_tokens",
    "require_choices",
    "require_held_out",
    "require_tokens",
]
