"""When two texts are one: what white space, case and Unicode form change makes no other name, question or answer."""

import unicodedata


def folded(text: str) -> str:
    """Return a text without case and Unicode form (caseless matching of compatibility forms: Unicode 3.13, D146)."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


def plain(text: str) -> str:
    """Return a folded text without white space that says nothing and characters that have no shape."""
    return " ".join("".join(c for c in folded(text) if unicodedata.category(c) != "Cf").split())
