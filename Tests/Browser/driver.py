"""One browser, its windows, and what hands and eyes do in them. Every wait is for an event, with a deadline."""

import json
import re
import shutil
import subprocess
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import numpy
from playwright.sync_api import Error, sync_playwright

DEADLINE = 30_000  # milliseconds; reached only when something is broken
SAMPLE = (1024, 768)


class Failed(Exception):
    """A check's own finding."""


def expect(true, words):
    if not true:
        raise Failed(words)


def decode(segmentation):
    """COCO's compressed run lengths as an array of bools, rows first; written from COCO's maskApi.c."""
    height, width = segmentation["size"]
    text, runs, at = segmentation["counts"], [], 0
    while at < len(text):
        value, shift, more = 0, 0, True
        while more:
            character = ord(text[at]) - 48
            value |= (character & 0x1F) << shift
            more = bool(character & 0x20)
            at, shift = at + 1, shift + 5
            if not more and character & 0x10:
                value |= -1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
    flat = numpy.repeat(numpy.arange(len(runs)) % 2 == 1, runs)
    return flat.reshape(width, height).T


def agreement(one, other):
    union = numpy.logical_or(one, other).sum()
    return float(numpy.logical_and(one, other).sum() / union) if union else 1.0


class Site:
    """The gateway under test, and the command line beside it."""

    def __init__(self, url, kirie, screenshots):
        self.url, self.kirie, self.screenshots = url.rstrip("/"), kirie, Path(screenshots) if screenshots else None

    def get(self, path):
        with urllib.request.urlopen(self.url + path) as answer:
            return answer.read()

    def segment(self, job):
        """The gateway's own answer, asked without a browser."""
        request = urllib.request.Request(
            self.url + "/v1/segment", data=json.dumps(job).encode(), headers={"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)

    def command_line(self, image, *options):
        """The best mask of `kirie segment`, computed in its own process."""
        run = subprocess.run(
            [self.kirie, "segment", str(image), *options, "--json"], capture_output=True, text=True, check=True
        )
        masks = json.loads(run.stdout)["masks"]
        return decode(max(masks, key=lambda mask: mask["score"])["segmentation"])


class Window:
    """A page of the site in a context of its own."""

    def __init__(self, site, page):
        self.site, self.page, self.troubles, self.elsewhere, self.expected = site, page, [], [], []
        page.set_default_timeout(DEADLINE)
        page.on("pageerror", lambda error: self.troubles.append(f"script: {error}"))
        page.on("console", self.__heard)
        page.on("request", self.__asked)

    def __heard(self, message):
        # The browser writes each answer of 4xx and 5xx into its console; those that a check asks for are no trouble.
        if message.type == "error" and not any(re.search(one, message.text) for one in self.expected):
            self.troubles.append(f"console: {message.text}")

    def __asked(self, request):
        if not request.url.startswith((self.site.url, "blob:", "data:")):
            self.elsewhere.append(request.url)

    def open(self, path="/"):
        self.page.goto(self.site.url + path)
        if path.startswith("/monitor"):
            return self
        self.page.wait_for_selector(
            "#samples li, body.with-picture, #notice:not([hidden]), dialog[open]", state="attached"
        )
        return self

    def sample(self, index=0):
        """Opens a sample and waits until pointing is answered."""
        self.page.click(f"#samples li:nth-child({index + 1}) button")
        return self.ready()

    def ready(self):
        self.page.wait_for_selector("body.with-picture:not(.waiting)")
        return self

    def at(self, x, y):
        """Where a point of the picture lies in the window."""
        scale, left, top = map(float, self.page.get_attribute("#stage", "data-view").split())
        box = self.page.locator("#stage").bounding_box()
        return box["x"] + left + x * scale, box["y"] + top + y * scale

    def click(self, x, y, **options):
        self.page.mouse.click(*self.at(x, y), **options)
        return self

    def drag(self, start, end, **options):
        mouse = self.page.mouse
        mouse.move(*self.at(*start))
        mouse.down(**options)
        mouse.move(*self.at(*((a + b) / 2 for a, b in zip(start, end, strict=True))))
        mouse.move(*self.at(*end))
        mouse.up(**options)
        return self

    def objects(self, count):
        """Waits until there are so many objects."""
        self.page.wait_for_function("n => document.querySelectorAll('#objects li').length === n", arg=count)
        return self

    def settled(self):
        """Waits until every click has been answered."""
        self.page.wait_for_function("() => !document.querySelector('#stage').dataset.pending")
        return self

    def areas(self):
        return [
            int(area)
            for area in self.page.eval_on_selector_all("#objects li", "all => all.map(one => one.dataset.area)")
        ]

    def painted(self, layer, x, y):
        """Whether a layer of the stage has something at a point of the picture."""
        left, top = self.at(x, y)
        return (
            self.page.evaluate(
                """([layer, x, y]) => {
              const canvas = document.querySelector(`#stage canvas.${layer}`);
              const box = canvas.getBoundingClientRect();
              const ratio = canvas.width / box.width;
              return canvas.getContext('2d').getImageData((x - box.left) * ratio, (y - box.top) * ratio, 1, 1).data[3];
            }""",
                [layer, left, top],
            )
            > 0
        )

    def wait_painted(self, layer, x, y, painted=True):
        for _ in range(600):
            if self.painted(layer, x, y) == painted:
                return self
            self.page.evaluate("() => new Promise(requestAnimationFrame)")
        raise Failed(f"{layer} is {'not ' if painted else ''}painted at {x}, {y}")

    def download(self, action, path):
        with self.page.expect_download() as started:
            self.page.click(f"[data-action={action}]")
        started.value.save_as(path)
        return path

    def notice(self, kind):
        self.page.wait_for_selector(f"#notice[data-kind='{kind}']:not([hidden])")
        return self.page.inner_text("#notice")

    def jobs(self, clicks_alone=False):
        """The jobs that the page asks for from now on; what the pointer asks for has a slot."""
        asked = []

        def heard(request):
            if request.url.endswith("/v1/segment"):
                job = json.loads(request.post_data)
                if not (clicks_alone and "slot" in job):
                    asked.append(job)

        self.page.on("request", heard)
        return asked

    def picture(self, name, whole=False):
        """A screenshot, where a folder for them was named."""
        if self.site.screenshots:
            # Fonts and pictures are there, and what glides has come to rest.
            self.page.evaluate(
                """async () => {
                  const ending = document.getAnimations().filter((one) => one.effect.getTiming().iterations === 1);
                  await Promise.all([document.fonts.ready, ...ending.map((one) => one.finished)]);
                }"""
            )
            self.page.screenshot(path=self.site.screenshots / f"{name}.png", full_page=whole)
        return self


class Browser:
    def __init__(self, site):
        self.site = site

    def __enter__(self):
        self.__playwright = sync_playwright().start()
        chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
        if chromium is None:
            raise SystemExit("Chromium is missing; on Debian: apt-get install chromium")
        # Root may not use the sandbox; tests run in containers as root.
        self.__browser = self.__playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        return self

    def __exit__(self, *_):
        self.__browser.close()
        self.__playwright.stop()

    @contextmanager
    def window(
        self,
        path="/",
        width=1280,
        height=800,
        language="en-GB",
        dark=False,
        phone=False,
        expected=(),
        before=None,
        **more,
    ):
        """A window; when it closes nothing may have gone wrong in it that the check did not expect."""
        if phone:
            width, height, more = 390, 844, {**more, "has_touch": True, "is_mobile": True, "device_scale_factor": 2}
        context = self.__browser.new_context(
            viewport={"width": width, "height": height},
            locale=language,
            color_scheme="dark" if dark else "light",
            reduced_motion="reduce",
            accept_downloads=True,
            **more,
        )
        window = Window(self.site, context.new_page())
        window.expected = [r"status of (4\d\d|5\d\d)", r"net::ERR"] if expected is True else list(expected)
        window.context = context
        if before:
            before(window)
        try:
            if path:
                window.open(path)
            yield window
            expect(not window.troubles, f"trouble in the browser: {window.troubles}")
            expect(not window.elsewhere, f"requests to elsewhere: {window.elsewhere}")
        except Error as error:
            raise Failed(f"{str(error).splitlines()[0]}; {window.troubles}") from error
        finally:
            context.close()
