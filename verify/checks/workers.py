"""The threads of the one pass over the weights: two hash, one examines, and buffers are used again and again."""

import hashlib
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any, Self

PIECE = 1 << 22
"""Bytes read at once: a multiple of `LARGEST_BLOCK` values of any type."""
_IN_FLIGHT = 48
"""Pieces read and not yet done with: enough to go on hashing while the kernels are loaded."""


class Workers:
    """Three threads, each doing its tasks in order: hash the file, hash the base, examine. Buffers are reused."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self.edited, self.base, self.examine = (self._stack.enter_context(ThreadPoolExecutor(1)) for _ in range(3))
        self._free: list[bytearray] = []
        self._pending: deque[tuple[list[Future[Any]], bytearray | None]] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def buffer(self) -> bytearray:
        """Return a buffer of `PIECE` bytes that nobody uses."""
        return self._free.pop() if self._free else bytearray(PIECE)

    def submit(self, tasks: list[Future[Any]], buffer: bytearray | None) -> None:
        """Hand in the tasks that use a buffer, and wait for the oldest when enough are in flight."""
        self._pending.append((tasks, buffer))
        while len(self._pending) > _IN_FLIGHT:
            self._finish_oldest()

    def drain(self) -> None:
        """Wait until all tasks have ended."""
        while self._pending:
            self._finish_oldest()

    def _finish_oldest(self) -> None:
        tasks, buffer = self._pending.popleft()
        for task in tasks:
            task.result()
        if buffer is not None:
            self._free.append(buffer)


class Digests:
    """The digests of a file and of its base, which are one until the first masked value."""

    def __init__(self, workers: Workers) -> None:
        self._workers = workers
        self._edited = hashlib.sha256()
        self._base: Future[Any] | None = None

    def fork(self) -> None:
        """From here on the base has other bytes."""
        if self._base is None:
            self._base = self._workers.edited.submit(self._edited.copy)

    def edited(self, content: memoryview) -> Future[Any]:
        """Take the file's next bytes."""
        return self._workers.edited.submit(self._edited.update, content)

    def base(self, content: memoryview, restored: Future[Any] | None) -> list[Future[Any]]:
        """Take the base's next bytes once they are restored; nothing to do while file and base are one."""
        if self._base is None:
            return []
        fork = self._base

        def update() -> None:
            if restored is not None:
                restored.result()
            fork.result().update(content)

        return [self._workers.base.submit(update)]

    def hexdigests(self) -> tuple[str, str]:
        """Return both digests; all tasks must have ended."""
        edited = self._edited.hexdigest()
        return edited, edited if self._base is None else self._base.result().hexdigest()
