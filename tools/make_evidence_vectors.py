"""Write spec/vectors/evidence-*.json: evidence of made-up machines, a file for each maker.

For every check there is evidence that passes it and evidence that does not. Run `python
tools/make_evidence_vectors.py` after a change of format, and never to make a failing test pass.
"""

from __future__ import annotations

import functools
from pathlib import Path

import evidence_cases_azure
import evidence_cases_dcap
import evidence_cases_host
import evidence_cases_nvidia
import evidence_cases_snp
import evidence_cases_tpm
import msgspec
from evidence_vectors import EvidenceFile
from vector_files import lines

VECTORS = Path(__file__).parents[1] / "spec" / "vectors"


def schema() -> bytes:
    """The schema of all of the files."""
    return (
        msgspec.json.format(msgspec.json.encode(msgspec.json.schema(EvidenceFile)), indent=2)
        + b"\n"
    )


@functools.cache
def build() -> dict[str, bytes]:
    """Contents by file name."""
    return {
        "evidence.schema.json": schema(),
        "evidence-snp.json": lines(evidence_cases_snp.snp_file()),
        "evidence-azure.json": lines(evidence_cases_azure.azure_file()),
        "evidence-dcap.json": lines(evidence_cases_dcap.dcap_file()),
        "evidence-nvidia.json": lines(evidence_cases_nvidia.nvidia_file()),
        "evidence-host.json": lines(evidence_cases_host.host_file()),
        "evidence-tpm.json": lines(evidence_cases_tpm.tpm_file()),
    }


if __name__ == "__main__":
    for name, content in build().items():
        (VECTORS / name).write_bytes(content)
