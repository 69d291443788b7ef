"""Renders and checks the Helm chart, offline, with Helm's own engine.

`python tools/chart.py check` lints the chart with each values file in its `ci/`, renders it, and
holds every object against the schemas of the oldest and the newest Kubernetes that is supported, in
which an unknown field is an error; then against the house's rules for pods. `render FILE` prints
what a values file comes to, `json` the same of a list of values on standard input, objects or why
they are refused. Exits 0 where all is well, 1 where not.
"""

from __future__ import annotations

import importlib.resources
import json
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator
from referencing import Registry, Resource

ROOT = Path(__file__).resolve().parent.parent
CHART = ROOT / "deploy" / "helm" / "tidegate"
CASES = CHART / "ci"
RELEASE, NAMESPACE = "tidegate", "weights"
VERSIONS = ("1.30.0", "1.37.0")
"""The oldest and the newest Kubernetes that objects are checked against."""

NO_LIVENESS = ("inner",)
"""It ends by itself where it cannot go on; one that waits for a lost rank must not be killed."""

Object = dict[str, Any]


class RefusedError(Exception):
    """Helm refuses these values; says why."""


def render(values: Object) -> list[Object]:
    """Every object that the chart makes of `values`. Raises RefusedError, where Helm does."""
    # Here, because it brings Go's runtime into the process.
    import helm_python

    with helm_python.Chart.load(CHART) as chart:
        try:
            chart.validate_schema(values)
            rendered = chart.render(values, name=RELEASE, namespace=NAMESPACE)
        except helm_python.HelmError as error:
            raise RefusedError(str(error)) from error
    return [
        made
        for name, text in sorted(rendered.items())
        if name.endswith(".yaml")
        for made in yaml.safe_load_all(text)
        if made
    ]


def lint(values: Object) -> list[str]:
    """What Helm's linter says against the chart, warnings included."""
    import helm_python

    told = helm_python.lint(CHART, values, strict=True, kube_version=f"v{VERSIONS[-1]}")
    severe = [
        f"{said['path']}: {said['error']}" for said in told["messages"] if said["severity"] > 1
    ]
    return severe + list(told["errors"])


def against_schema(made: Object, version: str) -> list[str] | None:
    """Where `made` is not what that Kubernetes takes; None where it has no schema of its kind."""
    folder, definitions = _schemas(version)
    group, _, revision = made["apiVersion"].rpartition("/")
    name = "-".join([made["kind"].lower(), *filter(None, [group.partition(".")[0], revision])])
    file = folder / f"{name}.json"
    if not file.is_file() or "monitoring.coreos.com" in group:
        return None
    schema = Resource.from_contents(json.loads(file.read_bytes()))
    checker = Draft202012Validator(schema.contents, registry=schema @ definitions)
    return [
        f"{'.'.join(map(str, error.absolute_path))}: {error.message}"
        for error in checker.iter_errors(made)
    ]


@cache
def _schemas(version: str) -> tuple[Any, Registry[Any]]:
    held = importlib.resources.files("kubernetes_validate") / "kubernetes-json-schema"
    folder = held / f"v{version}-local-strict"
    definitions = json.loads((folder / "_definitions.json").read_bytes())
    return folder, Resource.from_contents(definitions) @ Registry()


def pod_of(made: Object) -> Object | None:
    """The pod template's spec of an object that makes pods."""
    spec = made.get("spec", {})
    job = spec.get("jobTemplate", {}).get("spec", spec)
    found: Object | None = job.get("template", {}).get("spec")
    return found


def against_house(objects: Sequence[Object]) -> Iterator[str]:
    """What pods must never be, and must always have."""
    for made in objects:
        pod = pod_of(made)
        if pod is not None:
            where = f"{made['kind']} {made['metadata']['name']}"
            claims = made["spec"].get("volumeClaimTemplates", ())
            own = {claim["metadata"]["name"] for claim in claims}
            for wrong in (*_pod(pod, probed="Job" not in made["kind"]), *_volumes(pod, own)):
                yield f"{where}: {wrong}"


def _pod(pod: Object, *, probed: bool) -> Iterator[str]:
    if pod.get("automountServiceAccountToken") is not False:
        yield "mounts a token of the API server"
    for host in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.get(host):
            yield f"sets {host}"
    shared = pod.get("securityContext", {})
    if not shared.get("runAsNonRoot") or not shared.get("runAsUser"):
        yield "may run as root"
    if shared.get("seccompProfile", {}).get("type") != "RuntimeDefault":
        yield "has no seccomp profile"
    if any("hostPath" in volume for volume in pod.get("volumes", ())):
        yield "mounts the host's files"
    yield from _containers(pod, probed)


def _volumes(pod: Object, claimed: set[str]) -> Iterator[str]:
    """Volumes that are mounted and not there, which no schema sees, or there for nobody."""
    there = claimed | {volume["name"] for volume in pod.get("volumes", ())}
    mounted = {
        mount["name"]
        for container in (*pod.get("initContainers", ()), *pod["containers"])
        for mount in container.get("volumeMounts", ())
    }
    for name in sorted(mounted ^ there):
        yield f"volume {name} is {'nowhere' if name in mounted else 'for nobody'}"


def _containers(pod: Object, probed: bool) -> Iterator[str]:
    for container in pod["containers"]:
        wanted = ("startupProbe", "readinessProbe", "livenessProbe") if probed else ()
        if container["name"] in NO_LIVENESS:
            wanted = wanted[:2]
        for lacking in (*wanted, "resources"):
            if lacking not in container:
                yield f"{container['name']} has no {lacking}"
    for container in (*pod.get("initContainers", ()), *pod["containers"]):
        name, own = container["name"], container.get("securityContext", {})
        if own.get("allowPrivilegeEscalation") is not False or own.get("privileged"):
            yield f"{name} may gain privileges"
        if own.get("readOnlyRootFilesystem") is not True:
            yield f"{name} may write to its image"
        if own.get("capabilities") != {"drop": ["ALL"]}:
            yield f"{name} keeps capabilities"


def wrongs(values: Object) -> list[str]:
    """All that is wrong with the chart under `values`."""
    found = lint(values)
    objects = render(values)
    for made in objects:
        for version in VERSIONS:
            for error in against_schema(made, version) or ():
                found.append(f"{made['kind']} {made['metadata']['name']} ({version}): {error}")
    return found + list(against_house(objects))


def unknown(values: Object) -> set[str]:
    """Kinds of objects for which there is no schema here."""
    return {made["kind"] for made in render(values) if against_schema(made, VERSIONS[-1]) is None}


def main(arguments: Sequence[str]) -> int:
    match arguments:
        case ["render", file]:
            told = _told(yaml.safe_load(Path(file).read_text()))
            if isinstance(told, str):
                print(told, file=sys.stderr)
                return 1
            print(yaml.safe_dump_all(told))
            return 0
        case ["json"]:
            print(json.dumps([_told(values) for values in json.load(sys.stdin)]))
            return 0
        case ["check"]:
            return _check()
    print(__doc__)
    return 2


def _told(values: Object) -> list[Object] | str:
    """The objects, or why Helm refuses the values."""
    try:
        return render(values)
    except RefusedError as refused:
        return str(refused)


def _check() -> int:
    bad = False
    for case in sorted(CASES.glob("*.yaml")):
        values = yaml.safe_load(case.read_text())
        found, blind = wrongs(values), unknown(values)
        bad = bad or bool(found)
        print(f"{case.name}: {'as it should be' if not found else ''}")
        for wrong in found:
            print(f"  {wrong}")
        if blind:
            print(f"  not checked, for want of a schema: {', '.join(sorted(blind))}")
    return int(bad)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
