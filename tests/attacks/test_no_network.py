"""The verifier opens no socket, and runs nothing of the artefact. What holds for which level is said at each test.

The tests beside these run in a process that refuses connections and look-ups (tests/conftest.py); the attacks run in
processes that end when any socket is made at all (guard/sitecustomize.py).
"""

import ast
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import certificates as c
import pytest
from scene import Scene

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
SOURCES = sorted(path for part in ("verify", "reports") for path in (ROOT / part).rglob("*.py"))
NETWORK = {
    "aiohttp", "asyncio", "ftplib", "http", "httpx", "huggingface_hub", "imaplib", "requests", "smtplib", "socket",
    "socketserver", "ssl", "urllib", "urllib3", "webbrowser", "xmlrpc",
}  # fmt: skip
RUNNERS = {"eval", "exec", "compile", "__import__"}
HARMLESS = {("verify/behaviour/loading.py", "huggingface_hub.errors"), ("reports/sarif.py", "urllib.parse")}
"""An exception's class, which transformers raises for a malformed configuration; and the quoting of names in URIs."""


def guarded(scene: Scene, *words: str, level: str = "static") -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join((str(HERE / "guard"), str(ROOT)))
    environment = os.environ | {
        "PYTHONPATH": paths, "MANSU_TEST_ARTEFACT": str(scene.out), "MANSU_KEY": str(scene.made.keys.public),
        "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    line = [sys.executable, "-P", *words, str(scene.out / "model"), "--manifest", str(scene.made.manifest)]
    line += ["--checks", level]
    return subprocess.run(
        line, capture_output=True, text=True, check=False, timeout=300, env=environment, cwd=scene.out
    )


@pytest.fixture
def scene(certificate: c.Certificate, tmp_path: Path) -> Scene:
    return Scene(certificate, tmp_path)


def imported(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_module_of_ours_imports_what_opens_a_socket_or_runs_text(path: Path) -> None:
    """Both levels: our own code, read as it stands."""
    name = path.relative_to(ROOT).as_posix()
    outward = {module for module in imported(path) if module.split(".")[0] in NETWORK}
    assert {(name, module) for module in outward} <= HARMLESS
    calls = [node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    assert not {call.id for call in calls if isinstance(call, ast.Name)} & RUNNERS
    assert not imported(path) & {"pickle", "marshal", "shelve", "dill", "joblib", "cloudpickle", "runpy"}


SHOW_MODULES = """
import sys
from verify.cli import main
try:
    main(sys.argv[1:])
finally:
    print("\\n" + "\\n".join(sorted(sys.modules)), file=sys.stderr)
"""


def test_a_static_run_loads_no_network_client_and_no_framework(scene: Scene) -> None:
    """Static: nothing of the standard library or beyond that speaks a protocol, and no torch or transformers.

    Python's own `socket` module is loaded by `importlib.metadata` (through `email.utils`, for a host's name): that it
    makes no socket is what the guard sees to.
    """
    run = guarded(scene, "-c", SHOW_MODULES)
    assert run.returncode == 0, run.stderr
    loaded = set(run.stderr.split())
    assert "verify.checks.integrity" in loaded
    outward = {name for name in loaded if name.split(".")[0] in NETWORK - {"urllib"}} - {"socket"}
    assert not outward
    assert not {"urllib.request", "urllib.error", "_ssl", "torch", "transformers", "bitsandbytes"} & loaded


def test_a_static_run_of_a_model_that_transformers_must_judge_makes_no_socket(scene: Scene) -> None:
    """Static, of a configuration that is not written down here: transformers is loaded, and reads files only."""
    scene.edit_json("model/config.json", lambda value: value.update(something_new=1))
    run = guarded(scene, "-m", "verify.cli")
    assert run.returncode == 0, run.stderr


def test_a_full_run_makes_no_socket(scene: Scene) -> None:
    """Full: transformers, huggingface_hub and their clients are loaded; not one socket is made, of any kind.

    The model knows nothing, so the verdict is no success; every check is reached.
    """
    run = guarded(scene, "-m", "verify.cli", "--format", "json", level="full")
    assert run.returncode in {1, 3}, run.stderr
    checks = {check["id"]: check["status"] for check in json.loads(run.stdout)["checks"]}
    assert checks["MV303"] != "skipped"
    assert checks["MV302"] == "pass"


GUARDED = {
    "a socket": "import socket; socket.socket()",
    "a look-up": "import socket; socket.getaddrinfo('localhost', 80)",
    "a process": "import subprocess; subprocess.run(['true'])",
    "a shell": "import os; os.system('true')",
    "a module of the artefact": "import sys; sys.path.insert(0, sys.argv[1].removesuffix('/model')); import planted",
}


@pytest.mark.parametrize("what", GUARDED)
def test_the_guard_ends_a_process_that_does_what_it_must_not(scene: Scene, what: str) -> None:
    scene.write("planted.py", "")
    run = guarded(scene, "-c", GUARDED[what])
    assert run.returncode == 77
    assert "forbidden" in run.stderr


def test_this_very_process_refuses_connections() -> None:
    from conftest import _reached_out

    with socket.socket() as end, pytest.raises(PermissionError):
        end.connect(("127.0.0.1", 9))
    with pytest.raises(PermissionError):
        socket.getaddrinfo("localhost", 80)
    assert len(_reached_out) == 2
    _reached_out.clear()
