"""Makes a release and signs it; checks one.

    python tools/release.py make OUT --key KEY      # from a clean commit
    python tools/release.py check OUT --signers FILE

`make` writes the source of the commit, a wheel, the Helm chart, a CycloneDX bill of materials and
SHA256SUMS over them, signed in OpenSSH's format (`ssh-keygen -Y`), which any machine that has ssh
can check. Source, chart and bill are the same bytes wherever they are made of one commit; the wheel
holds what the C compiler made. `check` exits 0 where everything is as it was signed, 1 where not.
"""

from __future__ import annotations

import argparse
import fnmatch
import gzip
import hashlib
import io
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import release_bill

ROOT = Path(__file__).resolve().parent.parent
CHART = ROOT / "deploy" / "helm" / "tidegate"
SUMS, SIGNATURE = "SHA256SUMS", "SHA256SUMS.sig"
NAMESPACE = "tidegate-release"
"""What signatures are for; one made for a commit or a mail does not fit here."""

_PIP = (sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation")


class ReleaseError(Exception):
    """The release cannot be made, or is not what was signed; says why."""


def commit_of(ref: str = "HEAD") -> tuple[str, datetime]:
    """A commit and when it was made."""
    told = _git("log", "-1", "--format=%H %ct", ref).decode().split()
    return told[0], datetime.fromtimestamp(int(told[1]), UTC)


def source(out: Path, commit: str, version: str) -> Path:
    """Everything in the commit, as one archive."""
    name = f"tidegate-{version}"
    plain = _git("archive", "--format=tar", f"--prefix={name}/", commit)
    # Without name and time, which gzip would put into its header.
    return _written(out / f"{name}.tar.gz", gzip.compress(plain, mtime=0))


def chart(out: Path, when: datetime) -> Path:
    """The chart as `helm install` takes it, but for what is only for its own tests."""
    ignored = (CHART / ".helmignore").read_text().split()
    told = release_bill.chart_version()
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive:
        # Chart.yaml first: readers stop there when they only want to know what it is.
        for path in sorted(CHART.rglob("*"), key=lambda p: (p.name != "Chart.yaml", p)):
            inside = path.relative_to(CHART)
            if path.is_dir() or _is_ignored(inside, ignored):
                continue
            entry = tarfile.TarInfo(f"tidegate/{inside.as_posix()}")
            entry.size, entry.mode = path.stat().st_size, 0o644
            entry.mtime = int(when.timestamp())
            with path.open("rb") as file:
                archive.addfile(entry, file)
    return _written(out / f"tidegate-chart-{told}.tgz", gzip.compress(packed.getvalue(), mtime=0))


def _is_ignored(path: Path, patterns: Sequence[str]) -> bool:
    return any(
        path.parts[0] == pattern.rstrip("/")
        if pattern.endswith("/")
        else fnmatch.fnmatch(path.name, pattern)
        for pattern in patterns
    )


def bill(out: Path, commit: str, when: datetime) -> Path:
    """The bill of materials, valid by CycloneDX' own schema."""
    text = release_bill.bill(commit, when)
    if wrong := release_bill.wrong(text):
        raise ReleaseError(f"the bill of materials is no CycloneDX document: {wrong}")
    return _written(out / "tidegate.cdx.json", text.encode())


def wheel(out: Path, archive: Path, when: datetime) -> None:
    """Build the wheel from the release's own source, so that it holds nothing else."""
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(archive) as packed:
            packed.extractall(folder, filter="data")
        [tree] = Path(folder).iterdir()
        subprocess.run(
            [*_PIP, "--wheel-dir", str(out), str(tree)],
            check=True,
            env=os.environ | {"SOURCE_DATE_EPOCH": str(int(when.timestamp()))},
        )


def sums(out: Path) -> Path:
    """SHA256SUMS over every file there, as sha256sum reads it."""
    lines = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n"
        for path in sorted(out.iterdir())
        if path.name not in (SUMS, SIGNATURE)
    ]
    return _written(out / SUMS, "".join(lines).encode())


def sign(path: Path, key: Path) -> Path:
    """Sign with an OpenSSH key: a file's, or a hardware one's (`ssh-keygen -t ed25519-sk`)."""
    signature = path.with_name(path.name + ".sig")
    signature.unlink(missing_ok=True)
    _ssh("-Y", "sign", "-n", NAMESPACE, "-f", str(key), str(path))
    return signature


def check(out: Path, signers: Path) -> tuple[str, int]:
    """Who signed, and how many files are as he signed them. Raises ReleaseError.

    1. The signature over SHA256SUMS is by somebody in `signers`, for a release.
    2. Every file that it names is there, with that hash.
    3. No other file is there.
    """
    told = (out / SUMS).read_bytes()
    signature = str(out / SIGNATURE)
    found = _ssh("-Y", "find-principals", "-s", signature, "-f", str(signers)).split("\n")
    who = found[0].strip()
    _ssh("-Y", "verify", "-n", NAMESPACE, "-I", who, "-s", signature, "-f", str(signers), told=told)
    named = dict(reversed(line.split("  ", 1)) for line in told.decode().splitlines())
    for name, digest in named.items():
        path = out / name
        if Path(name).name != name or not path.is_file():
            raise ReleaseError(f"{name} is named in {SUMS} and is not there")
        if hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            raise ReleaseError(f"{name} is not the file that was signed")
    extra = {path.name for path in out.iterdir()} - named.keys() - {SUMS, SIGNATURE}
    if extra:
        raise ReleaseError(f"{', '.join(sorted(extra))}: there, and signed by nobody")
    return who, len(named)


def make(out: Path, key: Path | None) -> None:
    """All of it, in `out`, which has to be empty. Raises ReleaseError."""
    if _git("status", "--porcelain").strip():
        raise ReleaseError("commit first: a release is made of a commit, and of nothing else")
    out.mkdir(parents=True, exist_ok=True)
    if any(out.iterdir()):
        raise ReleaseError(f"{out} is not empty")
    commit, when = commit_of()
    version = release_bill.version()
    wheel(out, source(out, commit, version), when)
    chart(out, when)
    bill(out, commit, when)
    summed = sums(out)
    if key is not None:
        sign(summed, key)


def _written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def _git(*arguments: str) -> bytes:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, check=False)  # noqa: S607
    if done.returncode:
        raise ReleaseError(f"git {arguments[0]}: {done.stderr.decode().strip()}")
    return done.stdout


def _ssh(*arguments: str, told: bytes | None = None) -> str:
    done = subprocess.run(
        ["ssh-keygen", *arguments],  # noqa: S607
        # Never a terminal: it would ask for a passphrase.
        input=told or b"",
        capture_output=True,
        check=False,
    )
    if done.returncode:
        said = (done.stderr or done.stdout).decode(errors="replace").strip()
        raise ReleaseError(f"ssh-keygen {arguments[1]}: {said or 'refused'}")
    return done.stdout.decode()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    does = parser.add_subparsers(dest="does", required=True)
    making = does.add_parser("make", help="from the commit that is checked out")
    making.add_argument("out", type=Path)
    making.add_argument("--key", type=Path, help="an OpenSSH key; without it nothing is signed")
    checking = does.add_parser("check", help="is it what was signed?")
    checking.add_argument("out", type=Path)
    checking.add_argument("--signers", type=Path, required=True, help="OpenSSH allowed signers")
    chosen = parser.parse_args()
    try:
        if chosen.does == "make":
            make(chosen.out, chosen.key)
        else:
            who, count = check(chosen.out, chosen.signers)
            print(f"{count} files, as {who} signed them")
    except (ReleaseError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
