"""Packages that only parts of the benchmark need: imported where they are used, with one clear refusal."""

import importlib
from types import ModuleType

from verify.errors import UsageError


def extra(name: str, package: str, purpose: str) -> ModuleType:
    """Import an optional module; raises `UsageError` ME323 when its package is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UsageError(
            f"{purpose} needs a package that is not installed",
            expected=f"the package {package}",
            found=str(error),
            remedy=f"pip install {package}, or all of them: pip install 'mansu[bench]'",
            error_id="ME323",
        ) from error
