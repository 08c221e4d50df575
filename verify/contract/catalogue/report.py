"""MV6xx: checks of a verifier's signed report, years later (`--check-report`). They do not check the model again."""

GROUP = "report"


class MV601:
    """The report is a readable regular file.

    The signed report and every file checked with it are regular files, read once, of bounded size.

    Why: a link, a pipe or a device can show two readers two different things.

    Fix: give the path of the file itself.
    """


class MV602:
    """The report is well formed.

    It is one strict reading of a Sigstore bundle with a DSSE envelope around an RFC 8785 in-toto statement.

    Why: whatever two readers can read differently, one of them can be deceived with.

    Fix: obtain the report again from whoever verified; do not repair it by hand, for its signature would not hold.
    """


class MV604:
    """The report is of the type it should be.

    Payload, statement and predicate type are those of mansu's verification report; a manifest, an SVR or a VSA of
    another tool is none.

    Why: a signature says who signed some bytes, and not what they mean.

    Fix: give the file that `--sign-with` wrote, which ends in `.intoto.json`.
    """


class MV603:
    """The report is signed by a verifier the user trusts.

    One signature, by one of the keys given with `--key`, which is not the key that the report names as the producer's.
    Only with `--manifest` is that compared with the manifest itself (MV610).

    Why: the verdict is only as good as whoever gave it, and producers do not certify themselves.

    Fix: obtain the verifier's public key from the verifier, by another way than the report, and give it with `--key`.
    """


class MV605:
    """The report does not contradict itself.

    Verdict, exit code, levels, names and digests in the report agree with each other.

    Why: software that reads one of them must not be told another story than software that reads the next.

    Fix: reject the report; no mansu-verify writes such a one.
    """


class MV606:
    """result.json is the one signed.

    The result beside the report, or given with `--result`, has the digest that the report names.

    Why: the details that people read must be those that the verifier signed.

    Fix: obtain result.json again from whoever verified.
    """


class MV607:
    """result.json says what the report says.

    Verdict, exit code, level, digests, key, time and files are the same in both.

    Why: one of the two would otherwise be read in place of the other.

    Fix: reject the report and its result; verify the model again.
    """


class MV608:
    """The other reports are the ones signed.

    Every HTML, PDF or other report that is there has the digest that the signed report names.

    Why: an edited page would carry the verifier's authority.

    Fix: obtain the reports again from whoever verified.
    """


class MV609:
    """The SVR beside the report is this report's.

    The Simple Verification Result is signed by the same key, names the same files, and is there only beside a report
    whose verdict lets the model through.

    Why: admission controllers read the SVR alone. An old one must not open the gate to a model that failed.

    Fix: remove the SVR, and take the one that belongs to this report.
    """


class MV610:
    """The manifest is the one verified.

    The manifest given has the digest that the report names, and the key that signed the report did not sign it.

    Why: a report on another certificate says nothing of this one, and a producer's report on itself nothing at all.

    Fix: give the manifest that was verified, or verify this one.
    """


class MV611:
    """The model's files are the ones verified.

    Every file of the model given is among the report's subjects with the same digest, and none is missing.

    Why: a report is about bytes. Other bytes are another model.

    Fix: give the model that was verified, or verify this one.
    """
