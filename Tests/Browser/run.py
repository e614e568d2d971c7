#!/usr/bin/env python3
"""Drives Kirie's pages in a real Chromium.

    pip install -r Tests/Browser/requirements.txt        # and Debian's chromium
    python3 Tests/Browser/run.py --url http://127.0.0.1:8080 --kirie .build/release/kirie --screenshots shots

Prints a line a check; exit status 0 when all hold, 1 when one does not. With --measure it prints the hover's speed.
"""

import argparse
import os
import sys
import time
from pathlib import Path

import checks_access
import checks_find
import checks_monitor
import checks_objects
import checks_page
import checks_states
from driver import Browser, Failed, Site
from measure import measure


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", default=os.environ.get("KIRIE_URL"), help="the gateway's address; default: $KIRIE_URL")
    parser.add_argument("--kirie", help="the program, for masks to compare with; without it they are not compared")
    parser.add_argument("--screenshots", type=Path, help="a folder for screenshots")
    parser.add_argument("--measure", action="store_true", help="print the hover's speed instead of checking")
    parser.add_argument("--filter", default="", help="only checks whose name contains this")
    parser.add_argument("--times", type=int, default=1, help="run the checks so many times")
    given = parser.parse_args()
    if not given.url:
        parser.error("which gateway? --url http://127.0.0.1:8080, or KIRIE_URL")
    return given


def main():
    given = arguments()
    if given.screenshots:
        given.screenshots.mkdir(parents=True, exist_ok=True)
    failures = 0
    with Browser(Site(given.url, given.kirie, given.screenshots)) as browser:
        if given.measure:
            measure(browser)
            return 0
        checks = [
            *checks_page.CHECKS,
            *checks_objects.CHECKS,
            *checks_find.CHECKS,
            *checks_states.CHECKS,
            *checks_access.CHECKS,
            *checks_monitor.CHECKS,
        ]
        for check in [one for one in checks if given.filter in one.__name__] * given.times:
            start = time.monotonic()
            name = check.__name__.replace("_", " ")
            try:
                check(browser)
                print(f"ok      {name} ({time.monotonic() - start:.1f} s)", flush=True)
            except Failed as failure:
                failures += 1
                print(f"FAILED  {name}: {failure}", flush=True)
            except Exception as error:  # one check's trouble is no reason to leave out the others
                failures += 1
                print(
                    f"FAILED  {name}: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}",
                    flush=True,
                )
    print(f"{failures} failed" if failures else "all hold")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
