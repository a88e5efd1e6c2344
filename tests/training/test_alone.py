"""Training needs torch, numpy, pillow, pyarrow and safetensors, and nothing else."""

import subprocess
import sys

SCRIPT = """
import sys

OTHERS = ("tensorboardX", "streamlit", "plotly", "tqdm", "sklearn", "scipy", "torchvision", "psutil", "umap", "filelock")
sys.modules.update(dict.fromkeys(OTHERS))  # None: importing it fails as if it were not installed
import explorer.training
assert "torch" not in sys.modules  # reading what a run has recorded does without it
from explorer.training import estimate, train
from explorer.defenses import RECIPES
from explorer.training import trainer
from explorer.data import raw
import pathlib
from contextlib import nullcontext
RECIPES.discover()
trainer.as_needed = lambda name, split: nullcontext(raw(name, "test", source="sample")[:2])
said = []
train(RECIPES["baseline"](epochs=1, width=4, batch=8), pathlib.Path(sys.argv[1]), limit=8, bf16=False, say=said.append)
assert len(said) == 1 and "tensorboardX is not installed" in said[0], said
"""


def test_a_run_needs_nothing_else(tmp_path):
    done = subprocess.run([sys.executable, "-c", SCRIPT, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "metrics.jsonl").is_file() and not (tmp_path / "tensorboard").exists()
