"""cffi build script of the kernels; run by setuptools, never at run time."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

from cffi import FFI

HERE = Path(__file__).resolve().parent
HEADERS = ("noise.h", "select.h", "symbols.h", "coder.h", "freivalds.h", "sha256.h", "score.h")
SOURCES = ("noise.c", "select.c", "symbols.c", "coder.c", "freivalds.c", "sha256.c", "score.c")
SCAN_SOURCES = ("scan.c", "scan_lanes.c")
EXACT_SOURCES = ("exact_rows.c", "exact.c", "exact_multiply.c", "exact_attend.c")
# The generated source only includes the others, so setuptools has to be told of them.
DEPENDS = [str(path) for path in sorted(HERE.glob("*.[ch]"))]
# No flag may let the compiler change what a float operation rounds to.
FLAGS = ["-O3", "-std=gnu11", "-ffp-contract=off", "-fno-math-errno", "-fopenmp"]


def _tables() -> str:
    # Loaded by path: the package itself cannot be imported while it is being built.
    spec = importlib.util.spec_from_file_location("tidegate_tables", HERE / "tables.py")
    if spec is None or spec.loader is None:
        sys.exit("cannot load tables.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return str(module.c_header())


def _declarations(header: str) -> str:
    """The header as cffi's parser reads it: constants as numbers, no other directives."""
    kept = []
    for line in (HERE / header).read_text().splitlines():
        words = line.split()
        if line.startswith("#define") and len(words) > 2:
            kept.append(f"#define {words[1]} {words[2]}")
        elif not line.startswith("#"):
            kept.append(line)
    return "\n".join(kept)


ffi = FFI()
ffi.cdef("\n".join(_declarations(name) for name in HEADERS))
ffi.set_source(
    "tidegate._native._kernels",
    # One translation unit, so that the compiler sees through the small functions.
    "\n".join(["#include <stdint.h>", _tables(), *(f'#include "{name}"' for name in SOURCES)]),
    include_dirs=[str(HERE)],
    depends=DEPENDS,
    extra_compile_args=FLAGS,
    extra_link_args=["-fopenmp"],
)

exact_ffi = FFI()
exact_ffi.cdef(_declarations("exact.h"))
exact_ffi.set_source(
    "tidegate._native._exact",
    "\n".join(f'#include "{name}"' for name in EXACT_SOURCES),
    include_dirs=[str(HERE)],
    depends=DEPENDS,
    extra_compile_args=FLAGS,
    extra_link_args=["-fopenmp"],
    libraries=["m"],
)

scan_ffi = FFI()
scan_ffi.cdef(_declarations("scan.h"))
scan_ffi.set_source(
    "tidegate._native._scan",
    "\n".join(f'#include "{name}"' for name in SCAN_SOURCES),
    include_dirs=[str(HERE)],
    depends=DEPENDS,
    extra_compile_args=FLAGS,
)
