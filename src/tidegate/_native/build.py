"""cffi build script of the kernels; run by setuptools, never at run time."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

from cffi import FFI

HERE = Path(__file__).resolve().parent
SOURCES = ("noise.c", "select.c")
HEADERS = ("noise.h", "select.h")


def _log2_header() -> str:
    # Loaded by path: the package itself cannot be imported while it is being built.
    spec = importlib.util.spec_from_file_location("tidegate_tables", HERE / "tables.py")
    if spec is None or spec.loader is None:
        sys.exit("cannot load tables.py")
    tables = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tables)
    values = ",".join(f"{value}u" for value in tables.log2_table()[:-1])
    return (
        f"#define TG_LOG_BITS {tables.LOG_BITS}\n"
        f"static const uint64_t TG_LOG2[(1 << TG_LOG_BITS) + 1] = {{{values},4294967296ull}};\n"
    )


def _declarations(header: str) -> str:
    """The header without its preprocessor lines, which cffi's parser does not read."""
    lines = (HERE / header).read_text().splitlines()
    return "\n".join(line for line in lines if not line.startswith("#"))


ffi = FFI()
for name in HEADERS:
    ffi.cdef(_declarations(name))

_texts = {name: (HERE / name).read_text() for name in (*HEADERS, *SOURCES)}
_body = "#include <stdint.h>\n" + _log2_header()
for _name in SOURCES:
    _body += "\n".join(
        line for line in _texts[_name].splitlines() if not line.startswith('#include "log2')
    ) + "\n"
ffi.set_source(
    "tidegate._native._kernels",
    _body,
    include_dirs=[str(HERE)],
    extra_compile_args=["-O3", "-std=gnu11", "-ffp-contract=off", "-fno-math-errno"],
)
