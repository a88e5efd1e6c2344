"""Certifiers, one file a kind of certificate: a new one is one new file, and the page, the table and the contract find it."""

from explorer.certify.certifier import Certifier
from explorer.core.registry import Registry

CERTIFIERS: Registry[Certifier] = Registry("certificate", "explorer.certify.certifiers")

__all__ = ["CERTIFIERS"]
