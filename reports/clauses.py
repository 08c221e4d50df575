"""Clauses of standards and laws, and where the certificate holds evidence that their reader may use.

Subjects are in our words, or a clause's published title where its text was not at hand. The table points at evidence;
it never says that a clause is met: that is for whoever applies it to a system and its use.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Clause:
    """One clause: its number, its subject, the anchors of sections that hold evidence, and what they leave open."""

    number: str
    subject: str
    evidence: tuple[str, ...]
    open: str


@dataclass(frozen=True)
class Source:
    """A standard or law with the clauses that touch a test report on an edited model."""

    name: str
    clauses: tuple[Clause, ...]


ISO = Source(
    "ISO/IEC 17025:2017, clause 7.8, Reporting of results",
    (
        Clause(
            "7.8.1", "General; review and authorisation before release", ("trust",), "No person reviewed this page."
        ),
        Clause(
            "7.8.2.1 a, d",
            "Title, unique identification, clear end",
            ("verdict", "repeat"),
            "The number is a digest; no register of numbers is kept.",
        ),
        Clause(
            "7.8.2.1 b, c, e",
            "Laboratory, place of the work, customer",
            (),
            "A result names no organisation, place or customer.",
        ),
        Clause(
            "7.8.2.1 f", "Method used", ("checks", "policy"), "The methods are mansu's own, not a published standard."
        ),
        Clause("7.8.2.1 g", "Description and identification of the item", ("items", "lineage"), ""),
        Clause(
            "7.8.2.1 h, i, j",
            "Dates of receipt, of the work, of issue",
            ("verdict",),
            "One date, by the verifier's clock: the start of the run.",
        ),
        Clause(
            "7.8.2.1 k",
            "Sampling plan and method",
            ("policy",),
            "How the probes were drawn is the word of whoever supplied them.",
        ),
        Clause("7.8.2.1 l", "Results relate only to the items tested", ("items",), ""),
        Clause("7.8.2.1 m", "Results, with units", ("changes", "permanence", "erasure", "axes"), ""),
        Clause("7.8.2.1 n", "Additions to, deviations or exclusions from the method", ("deviations",), ""),
        Clause("7.8.2.1 o", "Persons authorising the report", (), "A result names no person."),
        Clause(
            "7.8.2.1 p, 7.8.2.2",
            "What others supplied is identified as such",
            ("lineage", "policy"),
            "Whether the producer's claims of how the edit was made are true.",
        ),
        Clause(
            "7.8.3",
            "Specific requirements for test reports",
            ("axes", "erasure", "repeat"),
            "Intervals cover the choice of probes, not other causes of error.",
        ),
        Clause("7.8.4, 7.8.5", "Calibration certificates; reporting sampling", (), "Neither was done."),
        Clause(
            "7.8.6",
            "Statements against a specification, with the decision rule",
            ("policy", "checks", "axes"),
            "The risk of a false accept or reject is not computed.",
        ),
        Clause("7.8.7", "Opinions and interpretations", (), "None are given."),
        Clause(
            "7.8.8",
            "Amendments to reports",
            ("verdict",),
            "Each run is a new report; it does not name the one it replaces.",
        ),
    ),
)

AI_ACT = Source(
    "Regulation (EU) 2024/1689 (AI Act), Annex IV, point 2(g)",
    (
        Clause(
            "2(g)",
            "Validation and testing procedures",
            ("checks", "policy", "repeat"),
            "Tests of the rest of the system.",
        ),
        Clause(
            "2(g)",
            "Test data and their main characteristics",
            ("axes", "policy"),
            "Probes are named by row, number and digest; their content and origin are not described.",
        ),
        Clause(
            "2(g)",
            "Metrics of accuracy and robustness, and of other requirements of Chapter III, Section 2",
            ("axes", "permanence", "erasure"),
            "Robustness against anything but NF4, and every other requirement of that section.",
        ),
        Clause("2(g)", "Potentially discriminatory impacts", (), "Not measured."),
        Clause(
            "2(g)",
            "Test logs and reports, dated and signed by the responsible persons",
            ("verdict", "trust"),
            "A person's signature. A signed report binds this page by its digest; the result is its record, not a log.",
        ),
        Clause("2(g)", "Pre-determined changes", ("changes",), "Whether this edit was foreseen by the provider."),
    ),
)

NIST = Source(
    "NIST AI Risk Management Framework 1.0 (AI 100-1), MEASURE 1.1 to 2.13",
    (
        Clause(
            "1.1",
            "Metrics selected; what cannot be measured is documented",
            ("axes", "permanence", "limits"),
            "Which risks the MAP function found.",
        ),
        Clause("1.2", "Metrics and controls regularly assessed", ("policy",), "One run shows no regularity."),
        Clause(
            "1.3",
            "Independent assessors, experts and communities involved",
            ("repeat", "policy"),
            "Who ran this; nobody was consulted.",
        ),
        Clause(
            "2.1", "Test sets, metrics and tools documented", ("axes", "policy", "repeat"), "Content of the probes."
        ),
        Clause("2.2", "Evaluations involving human subjects", (), "No person took part."),
        Clause(
            "2.3",
            "Performance measured for conditions like deployment",
            ("axes", "permanence"),
            "Deployment in other formats than NF4, prompts of real users.",
        ),
        Clause("2.4", "Behaviour monitored in production", (), "Nothing was monitored."),
        Clause(
            "2.5",
            "Validity and reliability; limits of generalisation documented",
            ("axes", "limits"),
            "Validity for the system's purpose.",
        ),
        Clause("2.6", "Safety risks", (), "Not evaluated."),
        Clause(
            "2.7",
            "Security and resilience",
            ("items", "trust", "permanence"),
            "Integrity of the files and NF4 only: no attack by prompts or further training was tried.",
        ),
        Clause(
            "2.8", "Transparency and accountability", ("lineage", "trust", "deviations"), "The organisation around it."
        ),
        Clause(
            "2.9",
            "Model explained, validated and documented; output interpreted in context",
            ("erasure", "axes", "glossary"),
            "Only the circuit of the forget set is examined.",
        ),
        Clause(
            "2.10",
            "Privacy risk",
            ("axes", "erasure", "limits"),
            "Extraction by other questions; whether the forget set is personal data.",
        ),
        Clause("2.11", "Fairness and bias", (), "Not evaluated."),
        Clause("2.12", "Environmental impact", (), "Not assessed; the run's seconds are under “How to repeat it”."),
        Clause(
            "2.13",
            "Effectiveness of the metrics and processes themselves",
            ("erasure", "permanence", "limits"),
            "Controls and theorems are shown; the procedure was not evaluated from outside.",
        ),
    ),
)

GDPR = Source(
    "Regulation (EU) 2016/679 (GDPR)",
    (
        Clause(
            "Art. 17",
            "Right to erasure (“right to be forgotten”)",
            ("axes", "permanence", "erasure"),
            "Whether the right exists and for what; training data, logs, backups, other copies and other recipients; "
            "whether the weights still hold personal data.",
        ),
        Clause(
            "Art. 5(2)",
            "Accountability of the controller for the principles of paragraph 1",
            ("items", "trust", "checks", "repeat"),
            "A dated record of one technical measure; the principles themselves are not assessed.",
        ),
    ),
)

SOURCES = (ISO, AI_ACT, NIST, GDPR)
