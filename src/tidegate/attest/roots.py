"""The makers' roots, named by the SHA-256 of their subject public key info. Pure.

A name is all that is kept here: the certificates come with the evidence, and count only where their
key is one of these. Each was computed from the root that its maker publishes (see the addresses).
"""

from __future__ import annotations

from typing import Final

AMD: Final = frozenset(
    {
        bytes.fromhex("9f056bee44377e29308cb5ffa895bdfb62d18881fa6bed8d6f075b0204089cb9"),
        bytes.fromhex("429a69c9422aa258ee4d8db5fcda9c6470ef15f8cd5a9cebd6cbc7d90b863831"),
        bytes.fromhex("4f125410563a2ab9a50356f9243f6fe0b6f73de98603f53f90339c70e9d7ad08"),
    }
)
"""ARK-Milan, ARK-Genoa, ARK-Turin: kdsintf.amd.com/vcek/v1/PRODUCT/cert_chain."""

INTEL: Final = frozenset(
    {bytes.fromhex("a0af031289f5d5d4132f9186068a7fc13628633ba235777472e29b6b6c67a49e")}
)
"""Intel SGX Root CA: certificates.trustedservices.intel.com."""

NVIDIA_DEVICES: Final = frozenset(
    {bytes.fromhex("a90c4eb5acfd3e3d03a25db6a26b84f720ad0503196c627c21ddd48dd85b06a4")}
)
"""NVIDIA Device Identity CA: github.com/NVIDIA/nvtrust."""

NVIDIA_RIMS: Final = frozenset(
    {bytes.fromhex("dec1dc316477aa851eebdf51327ae9f864bc8d89254657ed1e7eb9168af1e1a3")}
)
"""NVIDIA CoRIM signing Root CA, which signs reference values: github.com/NVIDIA/nvtrust."""
