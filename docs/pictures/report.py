"""The page that a run ends in, as a browser shows it: its beginning in the light, its curves in the dark."""

import io
import os
import shutil
import subprocess
import sys
from base64 import b64decode
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

WIDTH, HEIGHT, GAP = 1120, 1180, 12
VIEWS = (("light", None), ("dark", "curves"))
"""Theme, and the section at the top."""


def quickstart(path: Path) -> None:
    """Write the picture of the quickstart's page, which is run first unless it was already."""
    from selenium.webdriver import Chrome, ChromeOptions
    from selenium.webdriver.chrome.service import Service

    page = Path("runs/quickstart/report.html")
    if not page.exists():
        subprocess.run([sys.executable, "-m", "fedsec", "run", "quickstart"], check=True)
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if program is None or driver is None:
        sys.exit("chromium and chromedriver are needed (Debian: apt-get install chromium chromium-driver)")
    options = ChromeOptions()
    options.binary_location = program
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    for argument in ("--headless=new", "--disable-gpu", "--hide-scrollbars", *sandbox):
        options.add_argument(argument)
    browser = Chrome(options=options, service=Service(driver))
    try:
        views = [_view(browser, page.resolve().as_uri(), theme, section) for theme, section in VIEWS]
    finally:
        browser.quit()
    picture = Image.new("RGB", (len(views) * (WIDTH + GAP) - GAP, HEIGHT), "#8b919b")
    for number, view in enumerate(views):
        picture.paste(view, (number * (WIDTH + GAP), 0))
    picture.quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)


def _view(browser: "Chrome", address: str, theme: str, section: str | None) -> Image.Image:
    size = {"width": WIDTH, "height": HEIGHT, "deviceScaleFactor": 1, "mobile": False}
    wishes = {"prefers-color-scheme": theme, "prefers-reduced-motion": "reduce"}
    features = [{"name": name, "value": value} for name, value in wishes.items()]
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    browser.get("about:blank")
    browser.get(address + (f"#{section}" if section else ""))
    browser.execute_async_script("requestAnimationFrame(() => setTimeout(arguments[0], 200))")  # the link is marked
    return Image.open(io.BytesIO(b64decode(browser.execute_cdp_cmd("Page.captureScreenshot", {})["data"])))
