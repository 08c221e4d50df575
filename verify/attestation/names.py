"""Where the signed files lie: beside result.json, named after it."""

from pathlib import Path

REPORT_SUFFIX = ".intoto.json"
SVR_SUFFIX = ".svr.intoto.json"


def report_path(result: Path) -> Path:
    """Return the report's path for a result: `result.json` → `result.intoto.json`."""
    return result.with_name(result.name.removesuffix(".json") + REPORT_SUFFIX)


def svr_path(report: Path) -> Path:
    """Return the path of a report's SVR: `result.intoto.json` → `result.svr.intoto.json`."""
    return report.with_name(report.name.removesuffix(".json").removesuffix(".intoto") + SVR_SUFFIX)
