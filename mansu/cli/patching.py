"""`mansu patch`: a certificate without the model."""

from pathlib import Path
from typing import Annotated

import typer

from mansu.cli.app import app

patch = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
app.add_typer(patch, name="patch", help="Ship a certificate without the model: for whoever holds the base.")

_Key = Annotated[
    list[Path] | None, typer.Option(metavar="PATH", help="Public key that must have signed the manifest; repeatable.")
]


@patch.command("export")
def patch_export(
    certified: Annotated[Path, typer.Argument(help="The certificate's folder, as mansu unlearn writes it.")],
    out: Annotated[Path, typer.Option(help="New folder for the patch.")],
    key: _Key = None,
) -> None:
    """Write all of a certificate but the model, with the edited values."""
    from mansu.patch import export  # noqa: PLC0415  (keeps --help fast)

    typer.echo(export(certified, out, key or []).summary("patch"))


@patch.command("apply")
def patch_apply(
    folder: Annotated[Path, typer.Argument(metavar="PATCH", help="The patch's folder.")],
    base: Annotated[Path, typer.Option(help="The base model's folder; its digests are checked first.")],
    out: Annotated[Path, typer.Option(help="New folder for the certificate.")],
    key: _Key = None,
) -> None:
    """Rebuild a certificate's folder, byte for byte, from its patch and the base model."""
    from mansu.patch import apply  # noqa: PLC0415  (keeps --help fast)

    typer.echo(apply(folder, base, out, key or []).summary("certificate"))
    typer.echo(f"verify it with: mansu-verify {out / 'model'} --manifest {out / 'm.json'} --key PUBLIC.pem")


@patch.command("revert")
def patch_revert(
    certified: Annotated[Path, typer.Argument(help="The certificate's folder.")],
    out: Annotated[Path, typer.Option(help="New folder for the base model.")],
    key: _Key = None,
) -> None:
    """Rebuild the base model's folder, byte for byte, from a certificate's model and ledger."""
    from mansu.patch import revert  # noqa: PLC0415  (keeps --help fast)

    typer.echo(revert(certified, out, key or []).summary("base model"))
