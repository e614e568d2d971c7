"""What the page says, and does, when something is in the way.

Where a healthy cluster would not give an answer, it is put into the gateway's mouth."""

import base64
import json
import zlib

from driver import Failed, expect

ORANGE, LEMON = (470, 600), (920, 560)


def problem(status, code, detail="So it is.", retry=None):
    headers = {"Content-Type": "application/problem+json"}
    if retry is not None:
        headers["Retry-After"] = str(retry)
    body = {"type": f"/problems/{code}", "title": code, "status": status, "code": code, "detail": detail}
    return {"status": status, "headers": headers, "body": json.dumps(body)}


def answers(page, pattern, *replies):
    """Gives these answers to the first requests for a path, and leaves the others alone. Counts what was asked."""
    left, asked = list(replies), []

    def handle(route):
        asked.append(route.request)
        reply = left.pop(0) if left else None
        if reply is None:
            route.continue_()
        else:
            route.fulfill(**reply)

    page.route(pattern, handle)
    return asked


def clicks_get(page, *replies):
    """Gives these answers to the first clicks. Hovers get none, so that no click takes a hover's."""
    left, asked = list(replies), []

    def handle(route):
        if "slot" in json.loads(route.request.post_data):
            return route.abort()
        asked.append(route.request)
        reply = left.pop(0) if left else None
        if reply is None:
            route.continue_()
        elif reply == "abort":
            route.abort("connectionrefused")
        else:
            route.fulfill(**reply)

    page.route("**/v1/segment", handle)
    return asked


def hold(page, pattern):
    """Keeps requests for a path until `let_go` is called."""
    held, free = [], []
    page.route(pattern, lambda route: route.continue_() if free else held.append(route))

    def let_go():
        free.append(True)
        for route in held:
            route.continue_()

    return held, let_go


def arrived(page, held, count):
    """Waits until so many requests are kept."""
    for _ in range(2000):
        if len(held) >= count:
            return
        page.evaluate("() => new Promise(requestAnimationFrame)")
    raise Failed(f"{len(held)} requests came, not {count}")


def uploading_and_encoding(browser):
    with browser.window() as window:
        page = window.page
        _, let_go = hold(page, "**/v1/images")
        page.click("#samples li:nth-child(1) button")
        expect("Uploading" in window.notice("uploading"), "no word of the upload")
        page.wait_for_selector("body.with-picture")
        window.picture("uploading")
        held = []
        page.route("**/warm", lambda route: held.append(route))
        let_go()
        arrived(page, held, 1)
        state = {"id": "a", "state": "waiting", "position": 3}
        page.route(
            "**/v1/jobs/a/events",
            lambda route: route.fulfill(
                status=200,
                headers={"Content-Type": "text/event-stream"},
                body=f"event: state\ndata: {json.dumps(state)}\n\n",
            ),
        )
        page.unroute("**/warm")
        _, let_go_again = hold(page, "**/warm")
        held[0].fulfill(
            status=202,
            headers={"Content-Type": "application/json"},
            body=json.dumps({"sha256": "", "state": "encoding", "job": "a"}),
        )
        expect("3 before this picture" in window.notice("queued"), "no place in line")
        window.picture("queued")
        let_go_again()
        window.ready()
        expect(page.locator("#notice").is_hidden(), "the notice stays")


def clicks_wait_for_the_encoding(browser):
    with browser.window() as window:
        page = window.page
        held, let_go = hold(page, "**/warm")
        page.click("#samples li:nth-child(1) button")
        page.wait_for_selector("body.with-picture")
        window.click(*ORANGE)
        page.wait_for_selector("#stage[data-pending='1']", state="attached")
        let_go()
        window.ready().objects(1)


def full_cluster_counts_down_and_goes_on(browser):
    with browser.window(expected=True) as window:
        page = window.page
        asked = answers(page, "**/v1/images", problem(429, "backpressure", retry=2))
        page.click("#samples li:nth-child(1) button")
        text = window.notice("full")
        expect("cluster is full" in text and "Trying again in" in text, text)
        window.picture("full")
        window.ready()
        expect(len(asked) == 2, f"asked {len(asked)} times")


def no_worker(browser):
    with browser.window(expected=True, dark=True) as window:
        page = window.page
        answers(page, "**/warm", problem(503, "no-worker", retry=600))
        page.click("#samples li:nth-child(3) button")
        expect("No worker" in window.notice("no-worker"), "no word of it")
        window.picture("no-worker")
        page.click("#notice button")
        window.ready()


def offline(browser):
    with browser.window(expected=True) as window:
        page = window.sample().page
        clicks_get(page, "abort")
        window.click(*LEMON)
        expect("No connection" in window.notice("offline"), "no word of it")
        window.picture("offline")
        page.evaluate("window.dispatchEvent(new Event('online'))")
        window.objects(1)


def failed_click_changes_nothing(browser):
    with browser.window(expected=True) as window:
        page = window.sample().page
        window.click(*ORANGE).objects(1).settled()
        areas = window.areas()
        reply = problem(422, "unusable-job", "The prompt has no use.")
        clicks_get(page, reply, reply)
        window.click(*LEMON)
        expect("no use" in window.notice("failed"), "the reason is not shown")
        window.settled()
        expect(window.areas() == areas, "the object changed")
        page.click("#notice button:last-child")
        expect(page.locator("#notice").is_hidden(), "the notice does not close")


def lost_answer_is_refined_by_its_points(browser):
    with browser.window(expected=True) as window:
        page = window.sample().page
        window.click(*ORANGE).objects(1).settled()
        asked = clicks_get(page, problem(404, "unknown-job"))
        window.click(440, 640)
        page.wait_for_function("() => !document.querySelector('#stage').dataset.pending")
        first, second = (json.loads(one.post_data)["prompts"][0] for one in asked)
        expect("mask" in first and "mask" not in second and len(second["points"]) == 2, f"{first}, {second}")
        expect(page.locator("#notice").is_hidden(), "a notice")


def lost_picture_is_sent_again(browser):
    with browser.window(expected=True) as window:
        page = window.sample().page
        clicks_get(page, problem(404, "unknown-image"))
        uploads = []
        page.on("request", lambda request: request.url.endswith("/v1/images") and uploads.append(request))
        window.click(*ORANGE).objects(1)
        expect(len(uploads) == 1, f"{len(uploads)} uploads")


def failed_encoding(browser):
    with browser.window(expected=True) as window:
        page = window.page
        reason = {"status": 422, "code": "job-failed", "title": "failed", "detail": "The picture lacks its last third."}
        answers(
            page,
            "**/warm",
            {
                "status": 202,
                "headers": {"Content-Type": "application/json"},
                "body": json.dumps({"state": "encoding", "job": "b"}),
            },
        )
        answers(
            page,
            "**/v1/jobs/b/events",
            {
                "status": 200,
                "headers": {"Content-Type": "text/event-stream"},
                "body": f"event: failed\ndata: {json.dumps(reason)}\n\n",
            },
        )
        page.click("#samples li:nth-child(1) button")
        expect("last third" in window.notice("failed"), "the reason is not shown")
        page.click("#notice button:first-child")
        window.ready()


def key(browser):
    def locked(window):
        def handle(route):
            if route.request.headers.get("authorization") == "Bearer right":
                headers = {name: value for name, value in route.request.headers.items() if name != "authorization"}
                return route.continue_(headers=headers)
            route.fulfill(**problem(401, "unauthorized"))

        window.page.route("**/v1/**", handle)

    with browser.window(expected=True, before=locked) as window:
        page = window.page
        page.wait_for_selector("#key[open]")
        page.fill("#key input", "wrong")
        page.keyboard.press("Enter")
        page.wait_for_selector("#key .wrong:not([hidden])")
        window.picture("key")
        page.fill("#key input", "right")
        page.click("#key button[value=use]")
        window.sample().click(*ORANGE).objects(1)
        page.reload()
        page.wait_for_selector("#samples li")
        expect(not page.locator("#key").is_visible(), "the key is forgotten within the tab")


def too_large(browser):
    def small(window):
        def handle(route):
            body = route.fetch().json()
            body["limits"]["image_bytes"] = 1000
            route.fulfill(json=body)

        window.page.route("**/v1/capabilities", handle)

    with browser.window(before=small) as window:
        window.page.click("#samples li:nth-child(1) button")
        expect("up to 1 kB" in window.notice("failed"), window.notice("failed"))


def links_of_pictures_that_are_gone(browser):
    packer = zlib.compressobj(wbits=-15)
    objects = packer.compress(b'[["mug","#e2492f",0,[["p",630,460,0]]]]') + packer.flush()
    data = base64.urlsafe_b64encode(objects).decode().rstrip("=")
    with browser.window(path=f"/#1.{'0' * 64}.{data}", expected=True) as window:
        text = window.notice("gone")
        expect("no longer there" in text, text)
        window.picture("gone")
    with browser.window(path="/#1.broken") as window:
        expect("cannot be read" in window.notice("failed"), "a broken link is not named")


def only_what_is_offered(browser):
    def offering(prompts, everything):
        def before(window):
            def handle(route):
                body = route.fetch().json()
                body["prompts"], body["everything"] = prompts, everything
                route.fulfill(json=body)

            window.page.route("**/v1/capabilities", handle)

        return before

    with browser.window(before=offering(["points", "box", "mask"], False)) as window:
        window.sample()
        expect(not window.page.locator("#offers").is_visible(), "text or everything is shown and not offered")
    with browser.window(before=offering(["points", "box", "mask", "text"], True)) as window:
        page = window.sample().page
        made = browser.site.segment(job_of(window))
        asked = []

        def reply(route):
            asked.append((route.request.url, json.loads(route.request.post_data)))
            route.fulfill(json=made)

        page.route("**/v1/everything", reply)
        page.click("#everything")
        window.objects(len(made["masks"]))
        expect(asked[0][1]["image"].keys() == {"sha256"}, f"{asked}")
        page.keyboard.press("Control+z")
        window.objects(0)
        page.route("**/v1/segment", reply)
        page.fill("#find input", "a lemon")
        page.click("#find button")
        window.objects(len(made["masks"]))
        expect(asked[-1][1]["prompts"] == [{"text": "a lemon"}], f"{asked[-1]}")
        window.picture("text-and-everything")


def job_of(window):
    """A job for the picture that is open, as the page itself asks."""
    with window.page.expect_request("**/v1/segment") as request:
        window.page.mouse.move(*window.at(*LEMON))
    job = json.loads(request.value.post_data)
    job.pop("slot")
    window.page.mouse.move(640, 20)
    return job


GATE = """
  const real = window.fetch;
  window.asked = [];
  window.most = 0;
  window.fetch = (url, options) => {
    if (!window.gated || url !== '/v1/segment') return real(url, options);
    return new Promise((resolve, reject) => {
      const one = { job: JSON.parse(options.body), state: 'under way' };
      one.let = () => { one.state = 'answered'; resolve(real(url, options)); };
      options.signal?.addEventListener('abort', () => { one.state = 'given up'; reject(options.signal.reason); });
      window.asked.push(one);
      window.most = Math.max(window.most, window.asked.filter(({ state }) => state === 'under way').length);
    });
  };
"""


def one_in_flight_and_nothing_stale(browser):
    """While a position is under way the next ones wait; the newest alone is asked; what was overtaken is not drawn."""
    with browser.window(before=lambda window: window.page.add_init_script(GATE)) as window:
        page = window.sample().page
        page.evaluate("() => { window.gated = true; }")
        newest = """([x, y]) => {
          const point = window.asked.at(-1)?.job.prompts[0].points[0];
          return point && Math.hypot(point[0] - x, point[1] - y) < 2;
        }"""
        page.mouse.move(*window.at(*ORANGE))
        page.wait_for_function(newest, arg=ORANGE)
        for x in range(500, 900, 8):
            page.mouse.move(*window.at(x, 560))
        page.mouse.move(*window.at(*LEMON))
        # What does not answer is given up after its time, and then the newest position is asked for, not those between.
        page.wait_for_function(newest, arg=LEMON)
        states = page.evaluate("() => window.asked.map(({ state }) => state)")
        expect(len(states) < 50, f"each position was asked for: {len(states)}")
        expect(states == ["given up"] * (len(states) - 1) + ["under way"], f"{states}")
        expect(page.evaluate("() => window.most") == 1, "more than one request at a time")
        slots = page.evaluate("() => [...new Set(window.asked.map(({ job }) => job.slot))]")
        expect(len(slots) == 1 and slots[0], f"slots {slots}")
        page.evaluate("() => window.asked.at(-1).let()")
        window.wait_painted("live", *LEMON)
        expect(not window.painted("live", *ORANGE), "what was overtaken is drawn")
        # The pointer leaves while a position is under way: it is given up, and nothing is drawn.
        page.mouse.move(*window.at(*ORANGE))
        page.wait_for_function(newest, arg=ORANGE)
        page.mouse.move(640, 20)
        page.wait_for_function("() => window.asked.at(-1).state === 'given up'")
        window.wait_painted("live", *LEMON, painted=False)
        # A click goes before a position.
        page.mouse.move(*window.at(*ORANGE))
        page.wait_for_function(newest, arg=ORANGE)
        window.click(*LEMON)
        page.wait_for_function("() => window.asked.at(-1).job.refine && window.asked.at(-2).state === 'given up'")
        page.evaluate("() => { window.gated = false; window.asked.at(-1).let(); }")
        window.objects(1)


CHECKS = [
    uploading_and_encoding,
    clicks_wait_for_the_encoding,
    full_cluster_counts_down_and_goes_on,
    no_worker,
    offline,
    failed_click_changes_nothing,
    lost_answer_is_refined_by_its_points,
    lost_picture_is_sent_again,
    failed_encoding,
    key,
    too_large,
    links_of_pictures_that_are_gone,
    only_what_is_offered,
    one_in_flight_and_nothing_stale,
]
