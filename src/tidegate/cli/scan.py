"""`tidegate scan`: look for weights in a file, a capture or whatever is piped in."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer
from rich.console import Console

from tidegate.cli.default_command import default_to
from tidegate.errors import ConfigError

if TYPE_CHECKING:
    from tidegate.scan.stream import Settings

DEFAULT = "content"
"""`tidegate scan FILE` is `tidegate scan content FILE`."""

app = typer.Typer(
    cls=default_to(DEFAULT),
    rich_markup_mode="markdown",
    no_args_is_help=True,
    help="Look for model weights: `tidegate scan FILE`, a capture (pcap, pcapng), or - for what is "
    "piped in. Wrappings are stripped; what is left is measured, held against your own weights and "
    "explained. Exits 0: nothing seen, 1: something seen, 2: could not scan. What the scanner "
    "cannot see is in docs/howto/scan.md.",
)

Target = Annotated[str, typer.Argument(help="A file, a capture file, or - for standard input.")]
Known = Annotated[
    list[Path] | None,
    typer.Option("--fingerprints", exists=True, help="Of your own weights; may be repeated."),
]
KeyFile = Annotated[
    Path | None, typer.Option("--key", exists=True, help="The key file of the fingerprints.")
]


@app.command(DEFAULT)
def content(
    target: Target,
    fingerprints: Known = None,
    key: KeyFile = None,
    calibration: Annotated[
        Path | None, typer.Option(exists=True, help="As `tidegate scan calibrate` wrote it.")
    ] = None,
    depth: Annotated[int, typer.Option(min=0, help="Wrappings followed at most.")] = 6,
    ratio: Annotated[
        int, typer.Option(min=2, help="Bytes that a packed byte may stand for, on average.")
    ] = 300,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    sarif: Annotated[Path | None, typer.Option(help="Also write SARIF 2.1.0.")] = None,
    html: Annotated[Path | None, typer.Option(help="Also write a page with the picture.")] = None,
) -> None:
    """Scan one file, capture or pipe, as a stream, with memory that does not grow with it."""
    from tidegate import __version__
    from tidegate.cli import scan_shown
    from tidegate.cli.scan_files import scan_capture, scan_stream
    from tidegate.scan import pcap, report
    from tidegate.scan.seen import Limits

    settings = _settings(calibration, fingerprints, key, Limits(depth=depth, ratio=ratio))
    with ExitStack() as stack:
        file = stack.enter_context(_opened(target))
        head = file.read(4)
        scan = scan_capture if pcap.is_capture(head) else scan_stream
        streams = scan(head, file, target, settings)
    if sarif is not None:
        sarif.write_bytes(report.to_sarif(streams, target, __version__))
    if html is not None:
        html.write_text(scan_shown.page(streams, target))
    if as_json:
        sys.stdout.buffer.write(report.to_json(streams) + b"\n")
    else:
        scan_shown.show(streams, Console())
    damaged = [stream.damage for stream in streams if stream.damage]
    if damaged:
        raise ConfigError(f"{target}: {damaged[0]}; what is shown is from before that")
    raise typer.Exit(1 if any(stream.sightings for stream in streams) else 0)


@app.command()
def calibrate(
    files: Annotated[
        list[Path], typer.Argument(exists=True, help="Harmless traffic of yours, or folders of it.")
    ],
    out: Annotated[Path, typer.Option(help="Where the calibration goes.")],
    false_positives: Annotated[
        float, typer.Option(min=1e-7, max=0.1, help="Share of harmless windows to exceed the line.")
    ] = 1e-3,
) -> None:
    """Draw the line for your own traffic: the threshold that it hardly ever exceeds."""
    from tidegate.cli.progress import bars
    from tidegate.cli.scan_files import calibrate_on, write_calibration

    with bars() as progress:
        made = calibrate_on(files, false_positives, progress)
    write_calibration(out, made)
    typer.echo(
        f"threshold {made.threshold} bits a byte (windows of 1 KiB: {made.short_threshold}), set "
        f"on {made.windows} windows, in {out}"
    )


@app.command()
def fingerprint(
    model: Annotated[
        Path, typer.Argument(exists=True, file_okay=False, help="A folder of safetensors shards.")
    ],
    out: Annotated[Path, typer.Argument(help="Where the fingerprints go.")],
    key: Annotated[
        Path, typer.Option("--key", help="The key file; made if it is not there. Keep it secret.")
    ],
    every: Annotated[
        int, typer.Option(min=1, help="One place of so many is kept: more is smaller and blunter.")
    ] = 64,
) -> None:
    """Take keyed fingerprints of a model's weights, so that a leaked piece of it is named."""
    from tidegate.cli.ground import secret_bytes
    from tidegate.cli.progress import bars
    from tidegate.cli.scan_files import make_fingerprints

    with bars() as progress:
        made = make_fingerprints(model, out, secret_bytes(key), every, progress)
    typer.echo(
        f"{len(made.tag_N):,} places of {len(made.tensors)} tensors in {out}, "
        f"{out.stat().st_size / 1e6:.0f} MB. Without {key} they say nothing about the weights"
    )


def _settings(
    calibration: Path | None, fingerprints: list[Path] | None, key: Path | None, limits: object
) -> Settings:
    from tidegate.cli.scan_files import read_calibration, read_matcher
    from tidegate.scan.seen import Limits
    from tidegate.scan.stream import Settings

    if fingerprints and key is None:
        raise ConfigError("--fingerprints needs the --key file that they were made with")
    chosen = Settings(limits=limits if isinstance(limits, Limits) else Limits())
    return Settings(
        calibration=read_calibration(calibration) if calibration else chosen.calibration,
        limits=chosen.limits,
        matcher=read_matcher(fingerprints, key) if fingerprints and key else None,
    )


def _opened(target: str) -> BinaryIO:
    if target == "-":
        return sys.stdin.buffer
    path = Path(target)
    if not path.is_file():
        raise ConfigError(f"{target} is no file; give a file, a capture, or - for standard input")
    return path.open("rb")
