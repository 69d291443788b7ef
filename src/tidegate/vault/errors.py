"""What can go wrong in custody."""

from __future__ import annotations

from tidegate.errors import TidegateError


class VaultError(TidegateError):
    """The vault cannot do what was asked. Nothing was released."""

    code = "vault_error"


class TamperedError(VaultError):
    """Sealed bytes, a manifest or a signature are not what the owner sealed."""

    code = "vault_tampered"


class KmsError(VaultError):
    """The key service cannot be reached, or does not open this key under this context."""

    code = "vault_kms"


class RevokedKeyError(KmsError):
    """The wrapping key was revoked; nothing that it wrapped opens again."""

    code = "vault_revoked"
