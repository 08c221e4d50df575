"""Commands that measure: methods, edits, circuits and models, each against the base."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from mansu.cli.app import app
from verify.errors import ExitCode


@app.command()
def bench(
    suite: Annotated[
        list[str], typer.Option(help="A suite of real knowledge, or authors: docs/suites.md; repeatable.")
    ],
    model: Annotated[
        Path | None,
        typer.Option(help="Base model's folder; by default SmolLM2-135M-Instruct, as in the demo.", show_default=False),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for models, measurements and tables.")] = Path("bench-run"),
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds, from the config's on.")] = 3,
    method: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="mansu, a baseline (docs/baselines.md) or an ablation (docs/masks.md); repeatable. By default mansu "
            "and every baseline.",
        ),
    ] = None,
    config: Annotated[Path | None, typer.Option(help="Hyper-parameters of mansu (TOML).")] = None,
    attacks: Annotated[
        bool, typer.Option("--attacks", help="Also ask in other ways, and teach again what was forgotten.")
    ] = False,
    frontier: Annotated[
        bool, typer.Option("--frontier", help="Trace how mansu's forgetting and retention fall with fewer changes.")
    ] = False,
    device: Annotated[str, typer.Option(help="Where models are trained and asked, such as cuda.")] = "cpu",
    table_only: Annotated[bool, typer.Option("--table-only", help="Run nothing: tables of what is there.")] = False,
) -> None:
    """Run every method on a suite with the same data, and write one table; what is there is not run again."""
    from mansu.base import device_named  # noqa: PLC0415  (keeps --help fast)
    from mansu.bench.study.report import bench as run  # noqa: PLC0415
    from mansu.config import read_config  # noqa: PLC0415
    from mansu.progress import Steps  # noqa: PLC0415

    settings, place, steps = read_config(config), device_named(device), Steps(Console(stderr=True))
    missing: list[str] = []
    for name in suite:
        text, broken = run(
            name,
            model,
            out,
            seeds=seeds,
            methods=method or [],
            config=settings,
            attacks=attacks,
            frontier=frontier,
            device=place,
            table_only=table_only,
            steps=steps,
        )
        typer.echo(text, nl=False)
        missing += broken
    for line in missing:
        typer.echo(f"not made: {line}", err=True)
    if missing:
        raise typer.Exit(int(ExitCode.FAIL))


@app.command()
def tradeoff(
    model: Annotated[Path, typer.Argument(help="Base model: a Hugging Face folder with safetensors.")],
    update: Annotated[
        list[str] | None, typer.Option(metavar="NAME=FOLDER", help="An edited model to place in the plot; repeatable.")
    ] = None,
    retain: Annotated[
        Path | None, typer.Option(help="What to keep, as JSON lines: adds a budget in nats (diagonal Fisher).")
    ] = None,
    out: Annotated[Path, typer.Option(help="The plot: .svg, .png or .pdf.")] = Path("tradeoff.svg"),
    json: Annotated[Path | None, typer.Option("--json", help="Also write the numbers as JSON.")] = None,
    config: Annotated[Path | None, typer.Option(help="Hyper-parameters (TOML), for the Fisher.")] = None,
) -> None:
    """Bound how many parameters an update of a given size can move to another NF4 code, and plot it."""
    from mansu.config import read_config  # noqa: PLC0415  (keeps --help fast)
    from mansu.progress import Steps  # noqa: PLC0415
    from mansu.tradeoff.report import report  # noqa: PLC0415

    steps = Steps(Console(stderr=True))
    typer.echo(report(model, update or [], retain, read_config(config), out, json, steps=steps), nl=False)


@app.command()
def bound(
    model: Annotated[Path, typer.Option(help="Base model: a Hugging Face folder with safetensors.")],
    edited: Annotated[Path, typer.Option(help="The edited model's folder, or its certificate's.")],
    retain: Annotated[Path, typer.Option(help="What was to be kept, as JSON lines.")],
    forget: Annotated[
        Path | None, typer.Option(help="What was forgotten: then the halves are those the engine trained on or not.")
    ] = None,
    prompts: Annotated[int, typer.Option(min=2, help="Facts of each half, one wording of each.")] = 48,
    texts: Annotated[int, typer.Option(min=1, help="Texts of each half.")] = 8,
    draws: Annotated[int, typer.Option(min=2, help="Random draws of the diagonal Fisher.")] = 8,
    config: Annotated[Path | None, typer.Option(help="Hyper-parameters (TOML) of the edit.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print every constant as JSON.")] = False,
) -> None:
    """Bound how far an edit moves what is retained, with every constant, and measure it beside the bounds."""
    from mansu.config import read_config  # noqa: PLC0415  (keeps --help fast)
    from mansu.progress import Steps  # noqa: PLC0415
    from mansu.retain_bound.report import shown  # noqa: PLC0415
    from mansu.retain_bound.run import Job, retain_bound  # noqa: PLC0415

    job = Job(model, edited, retain, forget, read_config(config), prompts, texts, draws)
    document = retain_bound(job, steps=Steps(Console(stderr=True)))
    typer.echo(document.model_dump_json(indent=1) if json else shown(document), nl=json)
    if document.exceeded:
        raise typer.Exit(int(ExitCode.FAIL))


@app.command()
def circuit(
    model: Annotated[Path, typer.Argument(help="A Hugging Face folder with safetensors.")],
    forget: Annotated[Path, typer.Option(help="What the circuit is of, as JSON lines.")],
    out: Annotated[Path, typer.Option(help="The circuit, as JSON.")] = Path("circuit.json"),
    pairs: Annotated[
        int, typer.Option(min=2, help="Prompt pairs to attribute; half as many others judge the circuit.")
    ] = 60,
    faithfulness: Annotated[
        float, typer.Option(min=0.01, max=1, help="How much of the metric the circuit must keep on its own.")
    ] = 0.85,
    svg: Annotated[Path | None, typer.Option(help="Also draw it: layers by heads and MLPs, strongest edges.")] = None,
    after: Annotated[
        Path | None, typer.Option(help="An edited model: compare its attribution on the same pairs (CAD).")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the choice of pairs.")] = 0,
) -> None:
    """Find the smallest faithful circuit of a forget set, and draw it, before and after an edit."""
    from mansu.circuit.report import Job, report  # noqa: PLC0415  (keeps --help fast)
    from mansu.progress import Steps  # noqa: PLC0415

    job = Job(model, forget, out, svg, after, pairs=pairs, target=faithfulness, seed=seed)
    document, summary = report(job, steps=Steps(Console(stderr=True)))
    typer.echo(summary)
    if not document.reached:
        raise typer.Exit(int(ExitCode.FAIL))


@app.command()
def calibrate(
    model: Annotated[Path, typer.Option(help="Base model: a Hugging Face folder with safetensors.")],
    forget: Annotated[Path, typer.Option(help="What is to be forgotten, as JSON lines.")],
    retain: Annotated[Path, typer.Option(help="What is to be kept, as JSON lines.")],
    out: Annotated[Path, typer.Option(help="The calibration, as JSON.")] = Path("calibration.json"),
    config: Annotated[Path | None, typer.Option(help="Hyper-parameters (TOML).")] = None,
    policy: Annotated[Path | None, typer.Option(help="Policy (TOML) whose thresholds the rule states.")] = None,
    edited: Annotated[
        Path | None, typer.Option(help="An edited model, to be judged by the rule: the folder of its files.")
    ] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the table as Markdown.")] = False,
) -> None:
    """Measure CAD of changes that erase nothing on this model, and state the rule that tells erasure from them."""
    from mansu.calibration.run import Job  # noqa: PLC0415  (keeps --help fast)
    from mansu.calibration.run import calibrate as run  # noqa: PLC0415
    from mansu.calibration.text import shown  # noqa: PLC0415
    from mansu.config import read_config  # noqa: PLC0415
    from mansu.progress import Steps  # noqa: PLC0415
    from verify.artefact.policy_file import read_policy  # noqa: PLC0415
    from verify.contract.policy import Policy  # noqa: PLC0415

    settings = read_config(config)
    judged_by = Policy() if policy is None else read_policy(policy)
    job = Job(model, forget, retain, out, settings, judged_by, edited)
    document = run(job, steps=Steps(Console(stderr=True)))
    typer.echo(shown(document, markdown=markdown), nl=False)
    typer.echo(f"written: {out}")
    raise typer.Exit(int(document.exit_code()))


@app.command()
def permanence(
    base: Annotated[Path, typer.Argument(help="Base model: a Hugging Face folder with safetensors.")],
    edited: Annotated[Path, typer.Argument(help="The model that was edited from it.")],
    forget: Annotated[Path, typer.Option(help="What was to be forgotten, as JSON lines.")],
    retain: Annotated[Path, typer.Option(help="What was to be kept, as JSON lines.")],
    quantizer: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Such as nf4, fp4, int8, gguf-q4_k_m or hqq; repeatable. Default: all."),
    ] = None,
    probes: Annotated[int, typer.Option(min=1, help="Held-out probes of each kind, at most.")] = 100,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the split, as of mansu unlearn, and of the draw.")] = 0,
    json: Annotated[Path | None, typer.Option("--json", help="Also write the matrix as JSON.")] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown, with intervals.")] = False,
) -> None:
    """Ask a base and an edited model under many quantizers whether what was forgotten stays forgotten."""
    from mansu.bench.permanence_report import Job, shown  # noqa: PLC0415  (keeps --help fast)
    from mansu.bench.permanence_report import permanence as run  # noqa: PLC0415
    from mansu.progress import Steps  # noqa: PLC0415

    job = Job(base, edited, forget, retain, tuple(quantizer or ()), probes, seed, json)
    typer.echo(shown(run(job, steps=Steps(Console(stderr=True))), markdown=markdown), nl=False)
