"""A small reader of the PDF files that WeasyPrint writes: objects, streams, and content as operators.

Enough for tests, and for nothing else: no encryption, no repair, no old cross-reference tables; a file is read from its
beginning, object by object.
"""

import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

_SPACE = re.compile(rb"(?:[\s\x00]|%[^\r\n]*)*")
_REF = re.compile(rb"(\d+) (\d+) R(?![A-Za-z])")
_NUMBER = re.compile(rb"[+-]?(?:\d+\.?\d*|\.\d+)")
_NAME = re.compile(rb"/[^\s\x00()<>\[\]{}/%]*")
_WORD = re.compile(rb"[A-Za-z'\"*0-9]+")
_OBJECT = re.compile(rb"(\d+) \d+ obj\s*")
_STREAM = re.compile(rb"\s*stream\r?\n")
_ESCAPES = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"\b", b"f": b"\f"}


@dataclass(frozen=True)
class Ref:
    """A reference to an object."""

    number: int


class Word(str):
    """A keyword or operator."""

    __slots__ = ()


class Name(str):
    """A name, without its slash."""

    __slots__ = ()


@dataclass(frozen=True, eq=False)
class Stream:
    """A stream's dictionary and what it holds, decompressed."""

    entries: dict[str, Any]
    data: bytes


def value_at(data: bytes, at: int) -> tuple[Any, int]:  # noqa: PLR0911  (one for each form of a value)
    """Return the value that begins at or after a position, and where it ends."""
    at = _SPACE.match(data, at).end()  # type: ignore[union-attr]  # matches everywhere
    if data.startswith(b"<<", at):
        items, at = _until(data, at + 2, b">>")
        return dict(zip(items[::2], items[1::2], strict=True)), at
    if data.startswith(b"[", at):
        return _until(data, at + 1, b"]")
    if data.startswith(b"(", at):
        return _literal(data, at + 1)
    if data.startswith(b"<", at):
        end = data.index(b">", at)
        return bytes.fromhex(data[at + 1 : end].decode()), end + 1
    if found := _REF.match(data, at):
        return Ref(int(found[1])), found.end()
    if found := _NUMBER.match(data, at):
        return float(found[0]) if b"." in found[0] else int(found[0]), found.end()
    if found := _NAME.match(data, at):
        return Name(found[0][1:].decode()), found.end()
    found = _WORD.match(data, at)
    if found is None:
        raise ValueError(f"no value at {at}: {data[at : at + 40]!r}")
    known: dict[bytes, Any] = {b"true": True, b"false": False, b"null": None}
    return known.get(found[0], Word(found[0].decode())), found.end()


def _until(data: bytes, at: int, end: bytes) -> tuple[list[Any], int]:
    found = []
    while not data.startswith(end, at := _SPACE.match(data, at).end()):  # type: ignore[union-attr]
        value, at = value_at(data, at)
        found.append(value)
    return found, at + len(end)


def _literal(data: bytes, at: int) -> tuple[bytes, int]:
    found, depth = b"", 1
    while True:
        byte = data[at : at + 1]
        at += 1
        if byte == b"\\":
            octal = re.compile(rb"[0-7]{1,3}").match(data, at)
            found += bytes([int(octal[0], 8)]) if octal else _ESCAPES.get(data[at : at + 1], data[at : at + 1])
            at = octal.end() if octal else at + 1
            continue
        depth += {b"(": 1, b")": -1}.get(byte, 0)
        if not depth:
            return found, at
        found += byte


class Pdf:
    """A file's objects, by number."""

    def __init__(self, data: bytes) -> None:
        self.objects: dict[int, Any] = {}
        at = data.index(b"\n") + 1
        while found := _OBJECT.match(data, _SPACE.match(data, at).end()):  # type: ignore[union-attr]
            value, at = value_at(data, found.end())
            if opening := _STREAM.match(data, at):
                end = opening.end() + value["Length"]
                content = data[opening.end() : end]
                value = Stream(value, zlib.decompress(content) if value.get("Filter") == "FlateDecode" else content)
                at = data.index(b"endstream", end) + len(b"endstream")
            self.objects[int(found[1])] = value
            at = data.index(b"endobj", at) + len(b"endobj")
        for packed in [entry for entry in self.streams() if entry.entries.get("Type") == "ObjStm"]:
            self._unpack(packed)

    def _unpack(self, packed: Stream) -> None:
        numbers = [int(word) for word in packed.data[: packed.entries["First"]].split()]
        for number, offset in zip(numbers[::2], numbers[1::2], strict=True):
            self.objects[number] = value_at(packed.data, packed.entries["First"] + offset)[0]

    def streams(self) -> list[Stream]:
        """Return all streams."""
        return [entry for entry in self.objects.values() if isinstance(entry, Stream)]

    def __call__(self, value: Any) -> Any:
        """Follow a reference."""
        return self.objects[value.number] if isinstance(value, Ref) else value

    @cached_property
    def trailer(self) -> dict[str, Any]:
        """The trailer, which a cross-reference stream carries."""
        return next(entry.entries for entry in self.streams() if entry.entries.get("Type") == "XRef")

    @cached_property
    def catalog(self) -> dict[str, Any]:
        """The document's root."""
        return dict(self(self.trailer["Root"]))

    def pages(self) -> list[dict[str, Any]]:
        """Return the pages in order."""

        def below(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
            if node["Type"] == "Page":
                yield node
            for kid in node.get("Kids", ()):
                yield from below(self(kid))

        return list(below(self(self.catalog["Pages"])))

    def content(self, page: dict[str, Any]) -> Iterator[tuple[str, list[Any]]]:
        """Yield a page's operators with their operands."""
        parts = self(page["Contents"])
        yield from operators(b"\n".join(self(part).data for part in (parts if isinstance(parts, list) else [parts])))


def operators(data: bytes) -> Iterator[tuple[str, list[Any]]]:
    """Yield the operators of a content stream with their operands."""
    at, operands = 0, []
    while (at := _SPACE.match(data, at).end()) < len(data):  # type: ignore[union-attr]
        value, at = value_at(data, at)
        if isinstance(value, Word):
            yield value, operands
            operands = []
        else:
            operands.append(value)
