"""Runs the app's script for Streamlit's AppTest."""

import runpy
from pathlib import Path

runpy.run_path(str(Path(__file__).parents[1] / "explorer" / "ui" / "script.py"), run_name="__main__")
