"""Packages that only some quantizers need: imported where they are used, with one clear refusal."""

import importlib
from types import ModuleType

from verify.errors import UsageError

NOT_INSTALLED = "ME360"


def extra(name: str, package: str, purpose: str) -> ModuleType:
    """Import an optional module; raises `UsageError` ME360 when its package is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UsageError(
            f"{purpose} needs a package that is not installed",
            expected=f"the package {package}",
            found=str(error),
            remedy=f"pip install {package}, or all of them: pip install 'mansu[quantizers]'",
            error_id=NOT_INSTALLED,
        ) from error
