"""From the pointer's move to the drawn mask, warm: what the page itself marks, event's time to canvas drawn."""

import statistics

HOVERS = 300


def measure(browser):
    """Prints figures; they depend on the machine and on what else it does, so nothing passes or fails by them."""
    with browser.window() as window:
        page = window.sample().page
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
        single(page, window)
        moving(page, window)


def single(page, window):
    """The pointer jumps, and rests until its mask is there."""
    for index in range(HOVERS):
        x, y = 40 + (index * 397) % 940, 40 + (index * 211) % 690
        before = page.evaluate("window.drawn.length")
        page.mouse.move(*window.at(x, y))
        page.wait_for_function("count => window.shown.length > count", arg=before)
    report("hover, the pointer at rest: move to mask drawn", page.evaluate("window.drawn"))
    report("and until the frame with it is made", page.evaluate("window.shown"))
    report("of the first: request to answer", page.evaluate("window.requests"))


def moving(page, window):
    """The pointer moves on without a pause: how old each drawn mask is."""
    page.evaluate("() => { window.drawn.length = 0; window.shown.length = 0; window.requests.length = 0; }")
    start, end = window.at(60, 380), window.at(960, 560)
    for _ in range(4):
        page.mouse.move(*start)
        page.mouse.move(*end, steps=120)
    report("hover, the pointer in motion: move to mask drawn", page.evaluate("window.drawn"))


def report(what, durations):
    if len(durations) < 2:
        print(f"{what}: too few")
        return
    cuts = statistics.quantiles(durations, n=100)
    print(
        f"{what}: median {statistics.median(durations):.1f} ms, p95 {cuts[94]:.1f} ms, p99 {cuts[98]:.1f} ms, "
        f"least {min(durations):.1f} ms, most {max(durations):.1f} ms, {len(durations)} times"
    )
