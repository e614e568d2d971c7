"""From the pointer's move to the drawn mask, warm: what the page itself marks, event's time to canvas drawn."""

import io
import statistics
import tempfile
from pathlib import Path

from PIL import Image

HOVERS = 300


def measure(browser):
    """Prints figures; they depend on the machine and on what else it does, so nothing passes or fails by them."""
    with browser.window() as window:
        watch(window.sample().page)
        single(window, "hover, the pointer at rest", 1)
        moving(window)
    with tempfile.TemporaryDirectory() as folder, browser.window() as window:
        path = Path(folder) / "large.jpg"
        sample = Image.open(io.BytesIO(browser.site.get("/samples/still-life.jpg")))
        sample.resize((8192, 6144), Image.Resampling.BILINEAR).save(path, quality=70)
        window.page.set_input_files("#file", path)
        watch(window.ready().page)
        single(window, "the same on a picture of 50 megapixels", 8)
        zooming(window)


def watch(page):
    """Collects what the page marks, and the requests' own times."""
    page.evaluate(
        """() => {
          window.drawn = [];
          window.shown = [];
          new PerformanceObserver((list) => {
            for (const entry of list.getEntries()) {
              if (entry.name !== 'kirie-hover') continue;
              window.drawn.push(entry.duration);
              // The frame that shows it has been made when a message sent from its beginning arrives.
              requestAnimationFrame(() => {
                const channel = new MessageChannel();
                channel.port1.onmessage = () => window.shown.push(performance.now() - entry.startTime);
                channel.port2.postMessage(0);
              });
            }
          }).observe({ entryTypes: ['measure'] });
          window.requests = [];
          new PerformanceObserver((list) => {
            for (const entry of list.getEntries()) {
              if (entry.name.endsWith('/v1/segment')) window.requests.push(entry.responseEnd - entry.requestStart);
            }
          }).observe({ entryTypes: ['resource'] });
        }"""
    )


def single(window, what, times):
    """The pointer jumps, and rests until its mask is there. The sample's size times `times` is the picture's."""
    page = window.page
    for index in range(HOVERS):
        x, y = 40 + (index * 397) % 940, 40 + (index * 211) % 690
        before = page.evaluate("() => window.shown.length")
        page.mouse.move(*window.at(times * x, times * y))
        page.wait_for_function("count => window.shown.length > count", arg=before)
    report(f"{what}: move to mask drawn", page.evaluate("() => window.drawn"))
    report("  and until the frame with it is made", page.evaluate("() => window.shown"))
    report("  of the first: request to answer", page.evaluate("() => window.requests"))


def moving(window):
    """The pointer moves on without a pause: how old each drawn mask is."""
    page = window.page
    page.evaluate("() => { window.drawn.length = 0; window.shown.length = 0; window.requests.length = 0; }")
    start, end = window.at(60, 380), window.at(960, 560)
    for _ in range(4):
        page.mouse.move(*start)
        page.mouse.move(*end, steps=120)
    report("hover, the pointer in motion: move to mask drawn", page.evaluate("() => window.drawn"))


def zooming(window):
    """Frames while the wheel turns over the large picture, with one object on it."""
    page = window.page
    window.click(8 * 470, 8 * 600).objects(1).settled()
    page.evaluate(
        """() => {
          window.frames_ = [];
          let before = performance.now();
          const frame = (now) => { window.frames_.push(now - before); before = now; requestAnimationFrame(frame); };
          requestAnimationFrame(frame);
        }"""
    )
    page.mouse.move(*window.at(8 * 470, 8 * 600))
    for delta in [-120] * 25 + [120] * 25:
        page.mouse.wheel(0, delta)
    report("frames while 50 megapixels are zoomed", page.evaluate("() => window.frames_")[2:])


def report(what, durations):
    if len(durations) < 2:
        print(f"{what}: too few")
        return
    cuts = statistics.quantiles(durations, n=100)
    print(
        f"{what}: median {statistics.median(durations):.1f} ms, p95 {cuts[94]:.1f} ms, p99 {cuts[98]:.1f} ms, "
        f"least {min(durations):.1f} ms, most {max(durations):.1f} ms, {len(durations)} times"
    )
