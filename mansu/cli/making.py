"""Commands that make a certificate, and what goes with one."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from mansu.cli.app import app
from verify.errors import ExitCode


@app.command()
def keygen(
    out: Annotated[Path, typer.Option(help="Folder for private.pem (mode 0600) and public.pem.")],
    identity: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Also write request.csr for a CA: an e-mail address, URI or DNS name to certify."
        ),
    ] = None,
) -> None:
    """Write an ECDSA P-256 key pair; keys that exist are never overwritten."""
    from verify.artefact import load_private, write_atomic, write_key_pair  # noqa: PLC0415  (keeps --help fast)
    from verify.artefact.certificates import alternative_name, signing_request  # noqa: PLC0415

    wanted = None if identity is None else alternative_name(identity)
    private, public = write_key_pair(out)
    typer.echo(f"private key: {private}\npublic key:  {public}")
    if wanted is not None:
        write_atomic(out / "request.csr", signing_request(load_private(private), wanted))
        typer.echo(f"request:     {out / 'request.csr'}")


@app.command()
def unlearn(
    model: Annotated[Path, typer.Option(help="Base model: a Hugging Face folder with safetensors.")],
    forget: Annotated[Path, typer.Option(help="What to forget, as JSON lines.")],
    retain: Annotated[Path, typer.Option(help="What to keep, as JSON lines.")],
    key: Annotated[Path, typer.Option(help="Private key (PEM) that signs the manifest.")],
    out: Annotated[Path, typer.Option(help="New folder for the certificate.")],
    config: Annotated[Path | None, typer.Option(help="Hyper-parameters (TOML).")] = None,
    seed: Annotated[
        int | None,
        typer.Option(min=0, help="Seed of every random choice; instead of the config's.", show_default=False),
    ] = None,
    policy: Annotated[
        Path | None, typer.Option(help="Policy (TOML) that the manifest commits to being judged by.")
    ] = None,
    supersedes: Annotated[
        Path | None,
        typer.Option(
            metavar="M.JSON", help="Manifest of the certificate that this one supersedes.", show_default=False
        ),
    ] = None,
    certificate: Annotated[
        Path | None, typer.Option(help="The key's certificate and its intermediates (PEM), sent along for --cert-root.")
    ] = None,
    frontier: Annotated[
        Path | None,
        typer.Option(help="Also trace change against forgetting and retention, and write the trials here (JSON)."),
    ] = None,
    device: Annotated[
        str, typer.Option(help="Where to train, such as cuda; what is claimed is measured on the CPU.")
    ] = "cpu",
) -> None:
    """Make a model forget, and write the edited model with its ledger, probes and signatures."""
    from mansu.base import device_named  # noqa: PLC0415  (keeps --help fast)
    from mansu.config import read_config  # noqa: PLC0415
    from mansu.progress import Steps  # noqa: PLC0415
    from mansu.solve.frontier import require_folder, write_frontier  # noqa: PLC0415
    from mansu.unlearn import unlearn as run  # noqa: PLC0415
    from verify.artefact.policy_file import read_policy  # noqa: PLC0415
    from verify.artefact.signing import load_signer  # noqa: PLC0415

    settings = read_config(config)
    if seed is not None:
        settings = settings.model_copy(update={"seed": seed})
    committed = None if policy is None else read_policy(policy).sha256()
    if frontier is not None:
        require_folder(frontier)
    steps = Steps(Console(stderr=True))
    signer = load_signer(key, certificate)
    outcome = run(
        model,
        forget,
        retain,
        signer,
        out,
        settings,
        steps=steps,
        policy_sha256=committed,
        supersedes=supersedes,
        frontier=frontier is not None,
        device=device_named(device),
    )
    if frontier is not None and outcome.frontier is not None:
        write_frontier(frontier, outcome.frontier)
    typer.echo(outcome.summary())
    if not outcome.target_met:
        raise typer.Exit(int(ExitCode.FAIL))


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for everything the demo writes.")] = Path("demo-run"),
    compare: Annotated[bool, typer.Option("--compare", help="Also run GradDiff and NPO on the same data.")] = False,
    seeds: Annotated[int, typer.Option(min=1, help="Repeat with that many seeds and show the spread.")] = 1,
    config: Annotated[Path | None, typer.Option(help="Hyper-parameters (TOML).")] = None,
) -> None:
    """Make SmolLM2-135M-Instruct forget the world's capitals, verify it, and write the report."""
    from mansu.demo.run import run_demo  # noqa: PLC0415  (keeps --help fast)
    from mansu.progress import Steps  # noqa: PLC0415

    code = run_demo(out, config, compare=compare, seeds=seeds, steps=Steps(Console(stderr=True)))
    raise typer.Exit(code)


@app.command()
def card(
    result: Annotated[
        Path, typer.Argument(metavar="OUT_OR_RESULT", help="A result.json, or a certificate's folder that holds one.")
    ],
    readme: Annotated[
        Path | None,
        typer.Option(help="Put the section into this README.md, in place; all else in it stays.", show_default=False),
    ] = None,
) -> None:
    """Write a model card's section: the verdict, its evidence and digests, and how to repeat it."""
    from verify.cli.card import card as written  # noqa: PLC0415  (keeps --help fast)

    section = written(result, readme)
    typer.echo(section if readme is None else f"card: {readme}", nl=readme is not None)
