"""A real Chromium without a screen, for tests of what pages look like."""

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
    """Open a file from disk in a window of that width in CSS pixels; the test is skipped where there is no browser.

    Parameters
    ----------
    file
        The page.
    profile
        An empty folder.
    width, height
        Of what is seen of the page.
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
        # A window cannot be made as narrow as a telephone, but its page can.
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        page.get(file.resolve().as_uri())
        yield page
    finally:
        page.quit()
