"""Export of a finished walk as files: pictures, exact arrays, all conditions, and the script that makes them again."""

from __future__ import annotations

import io
import json
import re
import zipfile
from dataclasses import dataclass
from typing import Any

import numpy as np

from explorer.core import Trace
from explorer.data.pictures import amplification, to_png
from explorer.engine.request import AttackRequest, eps_text
from explorer.engine.tracing import Result

ARRAYS = {
    name: name for name in ("frames", "logits", "features", "loss", "linf", "l2", "reached", "passes")
}  # of the trace, a row per frame
ARRAYS |= {"stalled": "degenerate"}  # saved under the name that earlier files have
GREY = 0.5  # "unchanged" in the picture of a perturbation
DAY = (1980, 1, 1, 0, 0, 0)  # the date of every file in a zip, so that equal walks make equal files


@dataclass(frozen=True, eq=False)
class Export:
    """One walk with its result, ready to be saved."""

    request: AttackRequest
    trace: Trace
    result: Result

    @property
    def stem(self) -> str:
        """The beginning of every file's name: model, attack, eps, image: "pgd-linf-deepfool-l2-image17"."""
        request = self.request
        model = request.model.partition("/")[2]
        size = "" if request.is_minimal else eps_text(request.eps).replace("/", "of")
        image = str(request.image).replace("upload:", "upload-") if request.is_upload else f"image{request.image}"
        toward = "" if request.target is None else f"to-{request.classes[request.target]}"
        seed = f"seed{request.seed}" if request.seed else ""
        parts = (model, request.attack, f"{request.norm}{size}", image, toward, seed)
        return re.sub(r"[^A-Za-z0-9._-]+", "-", "-".join(filter(None, parts)))

    @property
    def original(self) -> np.ndarray:
        """(C,H,W) float32."""
        return self.trace.frames[0]

    @property
    def adversarial(self) -> np.ndarray:
        """(C,H,W) float32, the frame that counts."""
        return self.trace.frames[self.result.best]

    @property
    def perturbation(self) -> np.ndarray:
        """(C,H,W) float32, signed: attacked minus original."""
        return self.adversarial - self.original

    @property
    def factor(self) -> float | None:
        """How often the perturbation is enlarged in its picture; None if nothing changed."""
        return amplification(float(np.abs(self.perturbation).max()))

    def pictures(self, factor: int = 1) -> dict[str, bytes]:
        """PNG files by what they show, each pixel a square of `factor`; rounded to 8 bits, as every PNG is.

        The perturbation is enlarged by `self.factor`, around grey: brighter than grey is a pixel that was raised.
        """
        change = GREY + (self.factor or 1.0) * self.perturbation
        shown = {"original": self.original, "adversarial": self.adversarial, "perturbation": change}
        return {name: to_png(pixels, factor) for name, pixels in shown.items()}

    def arrays(self) -> bytes:
        """An npz file of plain arrays (no pickle): the three images and a row of everything for each frame."""
        memory = io.BytesIO()
        proven: dict[str, Any] = {} if self.trace.certified is None else {"certified_radius_l2": self.trace.certified}
        np.savez_compressed(
            memory,
            original=self.original,
            adversarial=self.adversarial,
            perturbation=self.perturbation,
            **{name: getattr(self.trace, field) for name, field in ARRAYS.items()},
            **proven,
        )
        return memory.getvalue()

    def facts(self) -> dict[str, Any]:
        """Plain values: all conditions and the verdict."""
        verdict, classes = self.result.verdict, self.trace.classes
        judged = {
            "reached": bool(verdict.reached[0]),
            "reached_8bit": bool(verdict.reached_8bit[0]),
            "inside": bool(verdict.inside[0]),
            "predicted": classes[int(verdict.predicted[0])],
            "predicted_8bit": classes[int(verdict.predicted_8bit[0])],
            "linf": float(verdict.linf[0]),
            "l2": float(verdict.l2[0]),
            "share_of_draws": float(verdict.share[0]),
        }
        return {"conditions": self.result.conditions, "verdict": judged, "classes": list(classes)}

    def conditions(self) -> bytes:
        """The facts as a JSON file."""
        return json.dumps(self.facts(), indent=1, ensure_ascii=False, allow_nan=False).encode() + b"\n"

    def script(self) -> str:
        """The walk as Python; run beside the saved files, it also says whether it made the very same image."""
        code = self.request.to_python(self.trace.label)
        code = code.replace('Path("picture.png")', f'Path("{self.stem}-original.png")')  # the same pixels: 8 bits
        return code + _COMPARISON.format(file=f"{self.stem}.npz")

    def bundle(self) -> bytes:
        """Everything in one zip. Equal walks give equal bytes but for the seconds they took."""
        files = {f"{self.stem}-{name}.png": data for name, data in self.pictures().items()}
        files |= {
            f"{self.stem}.npz": self.arrays(),
            f"{self.stem}.json": self.conditions(),
            f"{self.stem}.py": self.script().encode(),
        }
        memory = io.BytesIO()
        with zipfile.ZipFile(memory, "w") as target:
            for name, data in files.items():
                packed = zipfile.ZIP_DEFLATED if name.endswith((".py", ".json")) else zipfile.ZIP_STORED
                target.writestr(zipfile.ZipInfo(name, DAY), data, packed)
        return memory.getvalue()


_COMPARISON = """
# The very same image as the saved one? On another computer, or with another number of threads, the last bits may differ.
import numpy as np

saved = np.load("{file}", allow_pickle=False)["adversarial"]
made = outcome.x[0].numpy()
print("bit for bit as saved" if np.array_equal(made, saved) else f"differs by up to {{abs(made - saved).max():.2g}}")
"""
