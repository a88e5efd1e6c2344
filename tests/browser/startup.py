"""Prints how long a newcomer waits: from `streamlit run app.py` to the first attack played, map and verdict included.

Run it on an idle machine, twice: the first run warms the file cache. `python tests/browser/startup.py`
"""

import sys
import time
from pathlib import Path

from playwright.sync_api import expect, sync_playwright

sys.path.insert(0, str(Path(__file__).parent))
from conftest import FLAGS, ROOT, _start, find_chromium

LIMIT = 120_000  # milliseconds


def main() -> None:
    log = Path(sys.argv[1] if len(sys.argv) > 1 else "/dev/null")
    with sync_playwright() as driver:
        page = driver.chromium.launch(executable_path=find_chromium(), args=list(FLAGS)).new_page()
        began = time.monotonic()
        server, url = _start(str(ROOT / "app.py"), {}, log)
        try:
            print(f"server answers          {time.monotonic() - began:5.2f} s")
            page.goto(url)
            expect(page.locator(".caption")).to_contain_text("the model takes", timeout=LIMIT)
            print(f"first frame on the page {time.monotonic() - began:5.2f} s")
            expect(page.get_by_text("White-box: the attack used")).to_be_visible(timeout=LIMIT)
            expect(page.get_by_text("of the way from")).to_be_visible(timeout=LIMIT)
            print(f"page complete           {time.monotonic() - began:5.2f} s")
            clicked = time.monotonic()
            first = page.get_by_text("White-box: the attack used").inner_text()
            page.get_by_role("group", name="Pictures to attack").get_by_role("button").nth(5).click()
            page.wait_for_url("**image=305**", timeout=LIMIT)
            expect(page.get_by_text("White-box: the attack used")).not_to_have_text(first, timeout=LIMIT)
            print(f"another picture, click to verdict {time.monotonic() - clicked:5.2f} s")
        finally:
            server.terminate()
            server.wait(20)


if __name__ == "__main__":
    main()
