"""Runs app.py for Streamlit's AppTest, which takes a folder named pages/ beside the script for its own."""

import runpy
from pathlib import Path

runpy.run_path(str(Path(__file__).parents[1] / "app.py"), run_name="__main__")
