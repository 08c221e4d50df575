"""What the manifest says was done, in words: true under every switch of the configuration."""

from mansu.config import Config

_MASKED = {
    "circuit": "circuit-restricted masked",
    "layers": "layer-restricted contrast-masked",
    "contrast": "contrast-masked",
    "gradient": "gradient-masked",
    "random": "randomly masked",
}


def described(config: Config) -> str:
    """Return the manifest's `method.name`: the mask, what of retention was left out, and the floor."""
    parts = {
        "null space": config.null_space,
        "Fisher": config.fisher,
        "retention after NF4": config.retain_after_nf4,
    }
    missing = [name for name, kept in parts.items() if not kept]
    without = f" without {' and '.join(missing)}," if missing else ""
    return f"{_MASKED[config.mask]} training{without} {_floor(config)}{_finish(config)}"


def _finish(config: Config) -> str:
    if config.floor != "levels":
        return ""
    steps = {
        "error compensation": config.error_compensation,
        "swaps": config.swap_rounds,
        "a polish": config.polish_rounds,
        "the smallest change": config.minimal_trials,
    }
    taken = [step for step, wanted in steps.items() if wanted]
    return f", with {', '.join(taken)}" if taken else ""


def _floor(config: Config) -> str:
    if config.floor == "none":
        return "without a floor, rounded to the stored dtype"
    if config.floor == "bin_width":
        return "with updates scaled up to a bin width at its end"
    progressive = config.progressive and len(config.snaps) > 1
    snapping = "with progressive snapping to NF4 levels" if progressive else "with one snap to NF4 levels at its end"
    return f"{snapping}, absmax holders included" if config.floor == "unfrozen" else snapping
