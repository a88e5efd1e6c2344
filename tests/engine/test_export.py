"""Saved files hold exactly what was computed, and the script among them makes it again."""

import dataclasses
import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from explorer.core import seeded
from explorer.engine import AttackRequest, Export, attack_work
from explorer.evaluation.verdict import round_to_8bit

ROOT = Path(__file__).parents[2]
UPLOAD = "upload:0123456789abcdef"


def made(engine, **changes):
    values = {"dataset": "cifar10", "image": 17, "model": "cifar10/tiny", "hyper": {"steps": 3}, "seed": 5} | changes
    request = AttackRequest(**values).checked()
    last = next(s for s in attack_work(engine, request)() if s is not None and s.result is not None)
    return Export(request, last.trace, last.result)


def read(data):
    with np.load(io.BytesIO(data), allow_pickle=False) as file:
        return dict(file)


def pixels(png):
    return np.asarray(Image.open(io.BytesIO(png))).transpose(2, 0, 1)


def test_arrays_come_back_exactly_without_pickle(engine):
    export = made(engine)
    arrays = read(export.arrays())
    assert np.array_equal(arrays["frames"], export.trace.frames) and arrays["frames"].dtype == np.float32
    assert np.array_equal(arrays["adversarial"], export.trace.frames[export.result.best])
    assert np.array_equal(arrays["perturbation"], arrays["adversarial"] - arrays["original"])
    assert np.array_equal(arrays["reached"], export.trace.reached)


def test_conditions_and_verdict_are_plain_json(engine):
    export = made(engine)
    facts = json.loads(export.conditions())
    assert (
        facts["conditions"]["seed"] == 5
        and facts["conditions"]["weights"]
        and facts["conditions"]["hyper"]["steps"] == 3
    )
    assert facts["verdict"]["inside"] is True and 0 < facts["verdict"]["linf"] <= 8 / 255
    assert facts["verdict"]["predicted"] in facts["classes"]


def test_pictures_are_the_arrays_in_8_bits(engine):
    export = made(engine)
    pictures = export.pictures()
    rounded = round_to_8bit(torch.from_numpy(export.adversarial)).numpy()
    assert np.array_equal(pixels(pictures["adversarial"]) / np.float32(255), rounded)
    assert np.array_equal(pixels(pictures["original"]) / np.float32(255), export.original)  # the sample's own bytes
    shown = (pixels(pictures["perturbation"]) / 255 - 0.5) / export.factor
    assert np.abs(shown - export.perturbation).max() <= 0.5 / 255 / export.factor + 1e-6
    assert export.factor == 15  # 0.5 / (8/255) is 15.9
    assert pixels(export.pictures(4)["original"]).shape == (3, 128, 128)


def test_file_names_speak(engine):
    assert made(engine, seed=0).stem == "tiny-pgd-linf8of255-image17"
    assert made(engine, norm="l2", eps=0.25, target="cat").stem == "tiny-pgd-l20.25-image17-to-cat-seed5"
    minimal = made(engine, attack="deepfool", norm="l2", hyper={"steps": 2})
    assert minimal.stem == "tiny-deepfool-l2-image17-seed5"


def test_a_change_of_nothing_is_a_grey_picture(engine):
    export = made(engine)
    frames = np.repeat(export.trace.frames[:1], len(export.trace), axis=0)
    still = dataclasses.replace(export, trace=dataclasses.replace(export.trace, frames=frames))
    assert still.factor is None
    assert set(pixels(still.pictures()["perturbation"]).flatten().tolist()) == {128}


def test_the_zip_holds_everything_under_one_name(engine):
    export = made(engine)
    with zipfile.ZipFile(io.BytesIO(export.bundle())) as bundle:
        names = {Path(name).name for name in bundle.namelist()}
        assert names == {
            export.stem + end
            for end in ("-original.png", "-adversarial.png", "-perturbation.png", ".npz", ".json", ".py")
        }
        assert bundle.testzip() is None
        assert np.array_equal(read(bundle.read(export.stem + ".npz"))["adversarial"], export.adversarial)
    assert export.bundle() == export.bundle()


def test_the_scripts_make_the_saved_images_bit_for_bit(engine, tmp_path):
    """In another process, as a reader would run them: a row of the sample, a stochastic model, an uploaded picture."""
    engine.keep_upload(UPLOAD, torch.randint(256, (3, 32, 32), generator=seeded(1)).float() / 255)
    exports = [
        made(engine, hyper={"steps": 3, "restarts": 2}),
        made(engine, model="cifar10/tiny-lwta", norm="l2", eps=0.5, hyper={"steps": 2, "draws": 3}),
        made(engine, image=UPLOAD, attack="fgsm", hyper={}),
    ]
    for export in exports:
        with zipfile.ZipFile(io.BytesIO(export.bundle())) as bundle:
            bundle.extractall(tmp_path)
    code = "import runpy\n" + "\n".join(f"runpy.run_path({export.stem + '.py'!r})" for export in exports)
    said = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert said.returncode == 0, said.stderr
    assert said.stdout.count("bit for bit as saved") == len(exports), said.stdout
