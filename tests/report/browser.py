"""Headless Chromium, for tests of rendered pages."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

SETTINGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"),
)


@contextmanager
def open_page(file: Path, profile: Path, width: int, height: int = 900) -> Iterator[Any]:
    """Open a local file in a browser; without a browser the test is skipped.

    Parameters
    ----------
    file
        The page.
    profile
        An empty folder for the profile of the browser.
    width, height
        Size of the viewport in CSS pixels.
    """
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium (extra 'browser') is not installed")
    browser, driver = next(filter(None, map(shutil.which, NAMES)), None), shutil.which("chromedriver")
    if browser is None or driver is None:
        pytest.skip("no Chromium with its chromedriver on this machine (Debian: chromium chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for setting in (*SETTINGS, f"--user-data-dir={profile}"):
        options.add_argument(setting)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    page = webdriver.Chrome(options=options, service=webdriver.ChromeService(executable_path=driver))
    try:
        # Windows have a minimum width that is wider than a phone; the emulated viewport does not.
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        page.get(file.resolve().as_uri())
        yield page
    finally:
        page.quit()
