"""What a release is made of, as a CycloneDX 1.6 document.

Components are the packages that an installation with every extra brings, at the versions of
requirements.lock, and the files of models: those that the package carries, with their hashes, and
those that it fetches by pinned hash. What only tests and tools need is left out. The same commit
gives the same bytes.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import re
import tomllib
import uuid
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import yaml
from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "src" / "tidegate" / "data"
NOT_SHIPPED = {"dev"}
_NAMESPACE = uuid.UUID("8a6a36d2-4a9a-5bb1-9c1e-6a4a3a0b2f57")


def pins() -> dict[str, str]:
    """Version by canonical name, of every package that is pinned; torch's pin is the Makefile's."""
    texts = (ROOT / "requirements.lock").read_text(), (ROOT / "Makefile").read_text()
    found = re.findall(r"^(?:TORCH := )?([A-Za-z0-9_.-]+)==(\S+)$", "\n".join(texts), re.M)
    return {canonicalize_name(name): version for name, version in found}


def direct() -> set[str]:
    """Canonical names of what the project itself asks for, extras for users included."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    shipped = [one for name, group in extras.items() if name not in NOT_SHIPPED for one in group]
    return {
        canonicalize_name(Requirement(one).name) for one in (*project["dependencies"], *shipped)
    }


def closure(names: Iterable[str], pinned: dict[str, str]) -> dict[str, set[str]]:
    """What each pinned package asks for in turn, of those that are pinned too."""
    found: dict[str, set[str]] = {}
    waiting = sorted(set(names) & pinned.keys())
    while waiting:
        name = waiting.pop()
        if name not in found:
            found[name] = _asks(name) & pinned.keys()
            waiting.extend(found[name])
    return found


def _asks(name: str) -> set[str]:
    try:
        asked = importlib.metadata.requires(name) or []
    except importlib.metadata.PackageNotFoundError:
        return set()  # an extra that is not installed here
    wanted = map(Requirement, asked)
    return {
        canonicalize_name(one.name)
        for one in wanted
        if one.marker is None or one.marker.evaluate({"extra": ""})
    }


def bill(commit: str, when: datetime) -> str:
    """The document for that commit."""
    pinned = pins()
    asked = closure(direct(), pinned)
    whole = _package("tidegate", version(), ComponentType.APPLICATION)
    whole.properties.add(Property(name="vcs:commit", value=commit))
    parts = {name: _package(name, pinned[name]) for name in asked}
    models = [*_carried(), *_fetched()]
    made = Bom(
        components=[*parts.values(), *models],
        serial_number=uuid.uuid5(_NAMESPACE, commit),
    )
    made.metadata.component = whole
    made.metadata.timestamp = when.astimezone(UTC)
    made.register_dependency(whole, [*(parts[n] for n in direct() & parts.keys()), *models])
    for name, needs in asked.items():
        made.register_dependency(parts[name], [parts[one] for one in sorted(needs)])
    return str(JsonV1Dot6(made).output_as_string(indent=1)) + "\n"


def chart_version() -> str:
    """The chart's."""
    told = yaml.safe_load((ROOT / "deploy" / "helm" / "tidegate" / "Chart.yaml").read_text())
    return str(told["version"])


def version() -> str:
    """The project's."""
    return str(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"])


def _package(name: str, version: str, kind: ComponentType = ComponentType.LIBRARY) -> Component:
    address = PackageURL("pypi", name=name, version=version)
    return Component(
        type=kind,
        name=name,
        version=version,
        purl=address,
        bom_ref=str(address),
        licenses=[LicenseFactory().make_from_string(told)] if (told := _licence(name)) else [],
    )


def _licence(name: str) -> str:
    """As the package's own metadata have it; empty where they do not say, or it is not here."""
    try:
        told = importlib.metadata.metadata(name)
    except importlib.metadata.PackageNotFoundError:
        return ""
    classified = [
        line.rpartition(" :: ")[2]
        for line in told.get_all("Classifier", [])
        if line.startswith("License :: OSI Approved :: ")
    ]
    said = told.get("License-Expression") or (classified[0] if len(classified) == 1 else "")
    short = told.get("License") or ""
    return str(said or (short if "\n" not in short and len(short) < 60 else ""))


def _carried() -> Iterator[Component]:
    for path in sorted(DATA.rglob("*.safetensors")):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        yield _model(
            path.relative_to(DATA).as_posix(), digest, "carried by the package", "Apache-2.0"
        )


def _fetched() -> Iterator[Component]:
    for name, pin in json.loads((DATA / "models.json").read_text()).items():
        yield _model(name, pin["sha256"], "fetched on first use", pin["licence"])


def _model(name: str, digest: str, how: str, licence: str) -> Component:
    return Component(
        type=ComponentType.MACHINE_LEARNING_MODEL,
        name=name,
        bom_ref=f"model:{name}",
        description=how,
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=digest)],
        licenses=[LicenseFactory().make_from_string(licence)] if licence else [],
    )


def wrong(document: str) -> str:
    """What is wrong with a document by CycloneDX' own strict schema; empty if nothing is."""
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(document)
    return "" if error is None else str(error)
