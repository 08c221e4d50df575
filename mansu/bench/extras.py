"""Packages that only parts of the benchmark need: imported where they are used, with one clear refusal."""

import importlib
from types import ModuleType

from verify.errors import UsageError

NO_QUANTIZER = "ME360"
"""The error of a quantizer whose package is not installed."""


def extra(name: str, package: str, purpose: str, *, group: str = "bench", error_id: str = "ME323") -> ModuleType:
    """Import an optional module; raises `UsageError` with that id when its package is not installed.

    `group` is the extra of mansu that brings the package.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UsageError(
            f"{purpose} needs a package that is not installed",
            expected=f"the package {package}",
            found=str(error),
            remedy=f"pip install {package}, or all of them: pip install 'mansu[{group}]'",
            error_id=error_id,
        ) from error


def quantizer(name: str, package: str, purpose: str) -> ModuleType:
    """Import a quantizer's module; raises `UsageError` ME360 when its package is not installed."""
    return extra(name, package, purpose, group="quantizers", error_id=NO_QUANTIZER)
