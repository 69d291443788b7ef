"""Harmless text that no rule or threshold of the scanner was set on, nor changed after.

Chosen before anything was run on it: generated clients, web frameworks with their minified scripts,
icons and templates, tables and dictionaries as JSON, policies, sources and translations, this
system's logs, and answers of this API as they cross a proxy. Rules that are changed because of what
is seen here make it tuning data, as happened to both collections of `scan_tuned`; then it has to be
replaced.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tidegate.bench.scan_data import wheel
from tidegate.bench.scan_texts import Text, files, in_chunks, sources
from tidegate.models.cache import Progress

TEXTS: Final = (
    wheel(
        "apache-airflow-core",
        "3.3.2",
        "99258922bccec15be4700ff89f3c942b8acd93407e263c287ce863e671bb3c50",
    ),
    wheel(
        "azure-cli", "2.91.0", "998f2b7812e553520c0f4c7bbb8420487d83f9930711cef335401c1f3fc5e0b6"
    ),
    wheel("ccxt", "4.5.90", "f5a375e88442851f3fddfd85ba9d165cfa1007aeea259ad1d6fd6223a06e6a7e"),
    wheel("dash", "4.4.1", "72120a91b10ee4d73f9446efd5d6a4ec218086feed7b1b479d2259844d1f658f"),
    wheel(
        "datadog-api-client",
        "2.62.0",
        "b779cde91e0d8c24666e762154bb266506cecaf63bcc9339cd2e0a34f2e30183",
    ),
    wheel(
        "fontawesomefree",
        "6.6.0",
        "599b574431c9bd92ed5fc054d1045a07c42335da36c17884f2b934755eef9089",
    ),
    wheel(
        "google-cloud-aiplatform",
        "2.7.0",
        "156ede4a6c304119195dbdaedaba8c33872f6d80b6525482dccb95f76405bd31",
    ),
    wheel("hl7apy", "1.3.5", "c8b80ff5ad020bf9c1e68a6395cf45cb78db621f65569d1798c46eb1b657e27b"),
    wheel("holidays", "0.109", "7d39c910167116d41fa6aae18d5e72b4541700cdd37743d799c83db3419201b0"),
    wheel(
        "homeassistant",
        "2024.3.3",
        "6e1ec2c07441d63fdcfb8acd2c4bbb6f68bc97330855784d3623d10c38fe3577",
    ),
    wheel(
        "intersight",
        "1.0.11.2026100617",
        "58d715a1505ff81470125308a2311d497edcf00757038aea373da561832a845e",
    ),
    wheel(
        "mkdocs-material",
        "9.8.1",
        "2115af67ee680e1398bdd0ea02e517721e4bba88b342503a93f97ea8eb3de51c",
    ),
    wheel("moto", "5.2.5", "eef62cdcf3bfe73e0863743511ba042dfaba04ba3d5ecdcb896a196c693ad528"),
    wheel("nltk", "3.10.4", "769ba5413f265b7d3e87cd163cc28efa01e29eeef8bb6080bc907949d9fcfb51"),
    wheel("notebook", "7.6.5", "b27b4af6e410e7456cfffc6fb5a764dcfb7a331408907d483024d6ddb5ec05f2"),
    wheel("prowler", "5.46.0", "b6266ec51f2879863d4c4341b12885a6cd892f0bba710b29641432caaab037fd"),
    wheel(
        "pulumi-aws", "7.51.1", "bffc7fb6ce352e9019302498571799a771f7a84234b19ff8b1710a6250b31024"
    ),
    wheel(
        "pulumi-gcp", "10.2.0", "714bcf5af7e078869884faa430944f7af6711da74538edb87a3f137fd063b1f2"
    ),
    wheel(
        "pycountry", "26.2.16", "115c4baf7cceaa30f59a4694d79483c9167dbce7a9de4d3d571c5f3ea77c305a"
    ),
    wheel(
        "spacy-lookups-data",
        "1.0.5",
        "466f21f087e4144bc93800679437ec5a17be7d0888734b1ba880b3ecb0978bc6",
    ),
    wheel(
        "transformers", "5.23.0", "018e82fd07490ad5bb58414f65e31576033dc7f36bed10c574843f69b90991bf"
    ),
)
_LOGS: Final = Path("/var/log")


def texts(progress: Progress) -> Iterator[Text]:
    """Every file of a kind of text, once, then logs and answers."""
    yield from files(TEXTS, progress)
    for path in sorted(_LOGS.rglob("*.log")):
        try:
            yield Text("logs of this system", path.read_bytes())
        except OSError:  # unreadable to whoever measures
            continue
    (pages,) = (one for one in TEXTS if one.package == "transformers")
    yield from in_chunks(sources(pages, ".py", progress))
