"""The words that a user chooses from, and what holds if he chooses none. Imports nothing, so that `--help` is quick."""

from __future__ import annotations

KEY_TYPES = ("ec-p256", "ec-p384", "rsa-2048", "rsa-3072", "rsa-4096", "ed25519")
DEFAULT_KEY_TYPE = "ec-p256"
"""The fastest for the balancer and for its clients, and known everywhere."""

AUTHORITIES = ("intermediate", "root")
PROFILES = ("server", "client")

P12_TARGETS = ("modern", "legacy")
"""Who is to import a PKCS#12 file, the default first: see `pkcs12`."""

BUNDLE_FORMS = ("fullchain", "chain", "leaf", "haproxy")
"""What goes into a PEM file that another program wants, the default first: see `bundle`."""

UNSPECIFIED = "unspecified"
HOLD = "certificateHold"
REASONS = (
    *(UNSPECIFIED, "keyCompromise", "cACompromise", "affiliationChanged", "superseded", "cessationOfOperation"),
    *(HOLD, "privilegeWithdrawn", "aACompromise"),
)
"""RFC 5280, 5.3.1, without removeFromCRL, which is for delta lists. HOLD is the only one that can be taken back."""

DEFAULT_NAME = "Private CA"
ROOT_DAYS = 3650
INTERMEDIATE_DAYS = 1825
SERVER_DAYS = 90
CLIENT_DAYS = 30
CRL_DAYS = 7
