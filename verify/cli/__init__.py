"""`mansu-verify`: arguments in, verdict and reports out. Exit codes are those of `verify.errors.ExitCode`.

`command` has the options, `arguments` reads those that need reading, `standalone` holds what needs no certificate to be
checked (`--prove`, `--show`), `output` writes results, `progress` draws the bars.
"""

from verify.cli.command import main

__all__ = ["main"]
