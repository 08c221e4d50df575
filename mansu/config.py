"""The configuration of an unlearning run: every hyper-parameter, with the defaults the demo uses."""

import tomllib
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from verify.contract.manifest import DEFAULT_PROFILES, Profile
from verify.contract.schema import Schema
from verify.errors import UsageError

MaskChoice = Literal["circuit", "contrast", "gradient", "random"]
"""How the mask is chosen: by contrast within the circuit; or, to compare with, by contrast, by the forget gradient
alone or at random among all that can be edited."""


class Config(Schema):
    """Hyper-parameters. A TOML file sets any of them; an unknown name is refused."""

    seed: int = Field(default=0, ge=0)
    # circuit
    attribution_pairs: int = Field(default=60, ge=4)
    circuit_pairs: int = Field(default=30, ge=4)
    circuit_faithfulness: float = Field(default=0.85, gt=0, le=1)
    # mask; the other choices are there to compare with
    mask: MaskChoice = "circuit"
    mask_share: float = Field(default=0.0045, gt=0, le=0.005)
    entry_share: float = Field(default=0.2, ge=0, lt=1)
    read_out_share: float = Field(default=0.25, ge=0, lt=1)
    # retain
    null_space_energy: float = Field(default=0.9, gt=0, lt=1)
    fisher_batches: int = Field(default=24, ge=1)
    fisher_budget: float = Field(default=1.0, gt=0)
    sampled_texts: int = Field(default=100, ge=1)
    text_length: int = Field(default=40, ge=8)
    # solve
    steps: int = Field(default=24, ge=1)
    steps_between: int = Field(default=6, ge=1)
    learning_rate: float = Field(default=3e-3, gt=0)
    training_products: Literal["bfloat16", "float32"] = "bfloat16"
    snaps: tuple[float, ...] = (0.6, 0.6, 0.6, 0.6, 1.0)
    prompt_divergence_weight: float = Field(default=1.0, ge=0)
    text_divergence_weight: float = Field(default=1.2, ge=0)
    # deployments to survive, all at once
    profiles: tuple[Profile, ...] = Field(default=DEFAULT_PROFILES, min_length=1)
    # targets and evidence
    forget_target: float = Field(default=0.08, ge=0, le=1)
    forget_known: float = Field(default=0.25, ge=0, le=1)
    forget_pairs: int = Field(default=60, ge=2)
    retain_pairs: int = Field(default=40, ge=2)

    def skips(self) -> tuple[tuple[str, ...] | None, ...]:
        """Return the distinct skip lists of the profiles."""
        return tuple(dict.fromkeys(profile.skip for profile in self.profiles))

    def settings(self) -> dict[str, str]:
        """Return every setting as a string, for the manifest (which holds the profiles themselves)."""
        return {name: str(value) for name, value in self.model_dump(exclude={"profiles"}).items()}


def read_config(path: Path | None) -> Config:
    """Read a TOML configuration, or return the defaults; raises `UsageError` ME205 for a bad file."""
    if path is None:
        return Config()
    try:
        return Config.model_validate(tomllib.loads(path.read_text(encoding="utf-8")), strict=False)
    except OSError as error:
        raise _refused(path, error.strerror or "unreadable") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise _refused(path, f"not TOML: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        raise _refused(path, f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error


def _refused(path: Path, found: str) -> UsageError:
    return UsageError(
        "the configuration cannot be used",
        expected=f"a TOML file that sets any of: {', '.join(Config.model_fields)}",
        found=f"{found} ({path})",
        remedy="correct the file, or leave --config out for the defaults",
        error_id="ME205",
    )
