"""Loaded by the interpreter before all else (PYTHONPATH): ends the process when it does what a verifier must not do.

An audit hook sees what C code does too, and cannot be taken off again. Forbidden are sockets of any kind, other
processes, and code or libraries that lie in the artefact (MANSU_TEST_ARTEFACT).
"""

import os
import sys

EXIT = 77
ARTEFACT = os.environ["MANSU_TEST_ARTEFACT"]
PROCESSES = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty", "pty.spawn")
LOADS = {"exec": 0, "compile": 1, "import": 1, "ctypes.dlopen": 0}
"""Audit events that run or load something, with the place of the file's name among their arguments."""


def _watch(event: str, arguments: tuple[object, ...]) -> None:
    forbidden = event.startswith("socket.") or event in PROCESSES
    if event in LOADS:
        what = arguments[LOADS[event]]
        forbidden = str(getattr(what, "co_filename", what)).startswith(ARTEFACT)
    if forbidden:
        os.write(2, f"forbidden: {event}\n".encode())
        os._exit(EXIT)


sys.addaudithook(_watch)
