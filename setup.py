"""Builds the C kernels; everything else about the project is in pyproject.toml."""

from setuptools import setup

setup(
    cffi_modules=[
        "src/tidegate/_native/build.py:ffi",
        "src/tidegate/_native/build.py:exact_ffi",
        "src/tidegate/_native/build.py:scan_ffi",
    ]
)
