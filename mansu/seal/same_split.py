"""Whether a split is that of an edit: what it calls held out must be what the edit was not trained on."""

from pathlib import Path

from mansu.request import Request
from verify.artefact import read_unverified
from verify.errors import ArtefactError, UsageError


def require_same_split(edited: Path, request: Request, seed: int) -> None:
    """Raise `UsageError` ME352 where an edit's certificate says that these sets were split by another seed.

    `edited` is a certificate's folder or its `model/`. Without a manifest there, and of other sets than the
    certificate's, nothing is known; the signature is not checked, for this guards against a slip alone.
    """
    manifest = (edited.parent if edited.resolve().name == "model" else edited) / "m.json"
    if not manifest.is_file():
        return
    try:
        made = read_unverified(manifest.read_bytes(), certificates=True).predicate
    except ArtefactError:
        return  # not a manifest of ours
    used = made.method.settings.get("seed", str(seed))
    same = (made.request.forget_sha256, made.request.retain_sha256) == (request.forget_sha256, request.retain_sha256)
    if same and used != str(seed):
        raise UsageError(
            "the edit was made with another seed, so that what would be held out here was trained on there",
            expected=f"seed {used}, as {manifest} says",
            found=f"seed {seed}",
            remedy=f"give --seed {used}, or a --config with seed = {used}",
            error_id="ME352",
        )
