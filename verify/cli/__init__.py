"""`mansu-verify`: arguments in, verdict and reports out. Exit codes are those of `verify.errors.ExitCode`.

`command` has the options, `arguments` reads those that need reading; `checking` checks a certificate, `signing` signs
the answer, `reported` checks a signed report, `standalone` holds what needs none of these (`--prove`, `--show`,
`--explain`). `auditing` is `mansu-audit`. `guard` runs either command to its exit, `output` writes results, `failure`
errors, `progress` draws the bars.
"""

from verify.cli.command import main

__all__ = ["main"]
