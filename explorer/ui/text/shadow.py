"""What a shadow attack on a certificate means, in sentences: a certificate says that an answer is stable, not that it is right."""

from __future__ import annotations

from collections.abc import Sequence

from explorer.certify import Certificate
from explorer.engine.captions import article
from explorer.engine.rounding import size
from explorer.engine.shadowing import Shadowing

WHAT = (
    "A certificate says that no change shorter than its radius leads out of the class. It does not say that the class is right. "
    "The shadow attack changes much more than that radius, but smoothly and in grey, until the smoothed model is sure of "
    "**another** class, and then asks for its certificate."
)


def said(found: Shadowing, certificate: Certificate | None) -> tuple[str, str]:
    """ "spoofed", "failed" or "under way", and one sentence. `certificate`: that of the untouched picture."""
    classes, clean = found.request.classes, found.clean
    if found.ended == "abstained":
        return (
            "failed",
            "**Nothing to attack.** The smoothed model gives no class for the untouched picture: PREDICT abstains.",
        )
    if not found.ended or clean is None or clean.label is None:
        return "under way", f"**A shadow is being cast**, step {found.step} of {found.settings.steps}."
    made = found.certificate
    far = f"The shadow changes no pixel by more than {size(found.linf, 'linf')} (L∞); its length is {size(found.l2, 'l2')} (L2)"
    if not found.spoofed or made is None or made.label is None:
        answer = "abstains" if made is None or made.label is None else f"still certifies {article(classes[made.label])}"
        return (
            "failed",
            f"**No certificate for a wrong class.** For the shadowed picture the smoothed model {answer}. {far}.",
        )
    own = (
        f"; the picture's own certificate reached {certificate.radius_text()}"
        if certificate and certificate.label is not None
        else ""
    )
    return "spoofed", (
        f"**Certified, and wrong.** With the shadow, {article(classes[made.label])} is certified at L2 radius "
        f"{made.radius_text()}{own}. {far}, far outside that radius: no proof is broken, and the certificate proves nothing about what "
        "the picture shows."
    )


def progress(found: Shadowing) -> tuple[float, str]:
    """How far it is, in [0, 1], and in words."""
    if found.step < found.settings.steps:
        return (
            found.step / found.settings.steps,
            f"Step {found.step} of {found.settings.steps}, {found.seconds:.0f} s of computing.",
        )
    return min(found.proof, 1.0), f"The certificate of the shadowed picture, {found.seconds:.0f} s of computing."


def certified(certificate: Certificate | None, classes: Sequence[str]) -> str:
    """One line below a picture."""
    if certificate is None:
        return "not certified yet"
    if certificate.label is None:
        return "no certificate: abstains"
    return f"certified: {classes[certificate.label]}, L2 {certificate.radius_text()}"
