"""Open the app in a browser: `streamlit run` on the project's pages.

  python -m explorer app
  python -m explorer app -- --server.address 0.0.0.0 --server.port 8600

What stands after -- goes to Streamlit as it is.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys
from typing import Any

from explorer.cli._console import Console
from explorer.core import InvalidValue
from explorer.core.confinement import ALLOWED
from explorer.core.paths import app


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--unconfined",
        action="store_true",
        help="pages may add others' code even where bubblewrap is missing: limits alone",
    )
    parser.add_argument("streamlit", nargs="*", metavar="-- OPTION", help="options of `streamlit run`")


def run(options: argparse.Namespace, console: Console) -> Any:
    if importlib.util.find_spec("streamlit") is None:
        raise InvalidValue("The app needs Streamlit and plotly: pip install 'robustness-explorer[app]'.")
    environment = os.environ | ({} if options.device == "auto" else {"EXPLORER_DEVICE": options.device})
    environment |= {ALLOWED: "1"} if options.unconfined else {}
    command = [sys.executable, "-m", "streamlit", "run", str(app()), *options.streamlit]
    ended = subprocess.run(command, cwd=app().parent, env=environment, check=False)  # its folder holds .streamlit
    return {"exit_code": ended.returncode}
