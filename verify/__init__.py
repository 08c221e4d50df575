"""The verifier: small, separate and trusted. It never imports the engine (`mansu`).

Three calls are its API for Python (docs/api.md): `verify.check(model, manifest, keys=...)` checks a certificate and
returns a `Result`, `verify.load_result(path)` reads one back, `verify.show(manifest)` decodes a manifest, unverified.
Each loads what it needs when it is first used, so that `import verify` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from verify.check import check
    from verify.contract.manifest import Statement
    from verify.contract.policy import Policy
    from verify.contract.result import Result
    from verify.errors import MansuError, UsageError
    from verify.reading import load_result, show

__all__ = ["MansuError", "Policy", "Result", "Statement", "UsageError", "check", "load_result", "show"]

_HOMES = {
    "MansuError": "verify.errors",
    "Policy": "verify.contract.policy",
    "Result": "verify.contract.result",
    "Statement": "verify.contract.manifest",
    "UsageError": "verify.errors",
    "load_result": "verify.reading",
    "show": "verify.reading",
}


def __getattr__(name: str) -> Any:
    """Load a name of the API when it is first asked for."""
    if name == "check":  # the module of that name, which can be called
        return import_module("verify.check")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """List the API beside what is loaded already."""
    return sorted({*globals(), *__all__})
