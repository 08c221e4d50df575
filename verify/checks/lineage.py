"""Where the model comes from (MV107 to MV109): its base, rebuilt, and exactly the declared values changed."""

from collections.abc import Iterable, Mapping

from verify.artefact import shown
from verify.artefact.oms import SignedFolder
from verify.checks.catalog import decided, failed, passed
from verify.checks.evidence import Evidence, abbreviated
from verify.contract.manifest import Base, Mask
from verify.contract.result import CheckResult

_UNDECLARED = "reject the certificate: the model differs from its base by more than it declares"
MISDECLARED = "reject the certificate: its manifest does not describe its own ledger"


def base_rebuilt(
    base: Base,
    rebuilt: Mapping[str, str],
    others: Mapping[str, str],
    pinned: Mapping[str, str],
    vendors: SignedFolder | None = None,
) -> tuple[CheckResult, str]:
    """MV107: the weights with the ledger's values put back meet the manifest's digests, the pinned and the vendor's.

    `rebuilt` holds the digest of each rebuilt weight file, `others` those of the other files. Returns the check and
    what the base's digest now rests on: the user's word only if every weight file is pinned, the vendor's signature
    only if it names every file of the base, and no other.
    """
    claimed = {file.name: file.sha256 for file in base.files}
    actual = {**others, **rebuilt}
    named = _named(pinned, rebuilt)
    wrong: list[tuple[str, str, str | None, str | None]]
    wrong = [("the manifest", name, claimed.get(name), digest) for name, digest in rebuilt.items()]
    wrong += [("the user", name, digest, actual.get(name)) for name, digest in named]
    wrong = [entry for entry in wrong if entry[2] != entry[3]]
    sources = ["of the manifest"] + ["of the user"] * bool(named) + ["of the vendor's signature"] * bool(vendors)
    expected = "the digests " + " and ".join(sources)
    remedy = "reject the certificate: it was not made from this base by the declared changes alone"
    if wrong:
        who, name, wanted, digest = wrong[0]
        found = f"{shown(name)} has {digest or 'no such file'}, {who} says {wanted or 'nothing of it'}"
        return failed("MV107", expected, found, remedy), "not established"
    difference = "" if vendors is None else vendors.difference(actual)
    if difference:
        return failed("MV107", expected, f"not as the vendor signed it: {difference}", remedy), "not established"
    found = "; ".join(f"{shown(name)} {digest}" for name, digest in rebuilt.items())
    if vendors is not None:
        return passed("MV107", expected, f"{found}; signed by {vendors.key_fingerprint}"), "signed by the vendor"
    by_user = rebuilt.keys() <= {name for name, _ in named}
    return passed("MV107", expected, found), "pinned by the user" if by_user else "claimed by the producer"


def _named(pinned: Mapping[str, str], rebuilt: Iterable[str]) -> list[tuple[str, str]]:
    """Give the nameless digest the name of the only weight file; among several it stays nameless and is refused.

    Pairs, for that file may be pinned by its name too: then both must be met.
    """
    names = list(rebuilt)
    return [(names[0] if not name and len(names) == 1 else name, digest) for name, digest in pinned.items()]


def base_files(base: Base, weights: Iterable[str], others: Mapping[str, str]) -> CheckResult:
    """MV108: the files beside the weights are the base's, byte for byte; `others` maps them to their digests."""
    claimed = {file.name: file.sha256 for file in base.files if file.name not in set(weights)}
    odd = sorted(name for name in claimed.keys() | others.keys() if claimed.get(name) != others.get(name))
    found = f"not as in the base: {abbreviated(odd)}" if odd else f"{len(others)} files as in the base"
    expected = "every other file of the model equals the base's, and the base has no other"
    return decided("MV108", expected, found, _UNDECLARED, holds=not odd)


def declared_mask(mask: Mask, evidence: Evidence) -> CheckResult:
    """MV109: the manifest's mask is the ledger's, tensor by tensor, and every entry of it really changed."""
    views = evidence.weights.tensors()
    actual = {name: (columns.count, views[name].count) for name, columns in evidence.ledger.items()}
    declared = {entry.tensor: (entry.masked, entry.total) for entry in mask.tensors}
    odd = sorted(name for name in actual.keys() | declared.keys() if actual.get(name) != declared.get(name))
    wrong = []
    if odd:
        wrong.append(f"other counts in {abbreviated(odd)}")
    for what, stated, counted in (
        ("masked values", mask.masked, evidence.masked),
        ("parameters", mask.parameters, evidence.parameters),
    ):
        if stated != counted:
            wrong.append(f"{stated:,} {what} declared, {counted:,} counted")
    if mask.ledger_sha256 != evidence.ledger_sha256:
        wrong.append("another ledger's digest")
    unchanged = evidence.scan.equal
    if unchanged:
        wrong.append(f"{sum(unchanged.values()):,} masked values equal the base's, in {abbreviated(list(unchanged))}")
    found = "; ".join(wrong) or f"{evidence.masked:,} values in {len(actual)} tensors, all changed"
    expected = "the ledger's tensors and counts, and every masked value different from the base's"
    return decided("MV109", expected, found, MISDECLARED, holds=not wrong)
