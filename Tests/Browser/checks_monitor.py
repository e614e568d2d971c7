"""The monitor."""

import json

from driver import expect

LETTERS = [
    {
        "entry": "17-0",
        "partition": 3,
        "id": "a1",
        "reason": "The picture lacks its last third.",
        "at": "2026-05-04T07:12:33Z",
        "attempts": 5,
        "image": "b3f7",
    },
    {
        "entry": "18-0",
        "partition": 9,
        "id": "a2",
        "reason": "Its lease ran out five times.",
        "at": "2026-05-04T07:14:02Z",
        "attempts": 5,
        "image": "0c4a",
    },
]


def with_letters(scopes):
    """Puts dead letters into the gateway's mouth, and these scopes into the caller's hands."""

    def before(window):
        letters = list(LETTERS)
        window.operated = []

        def capabilities(route):
            body = route.fetch().json()
            body["authentication"]["scopes"] = scopes
            route.fulfill(json=body)

        def dead(route):
            request = route.request
            path = request.url.split("/v1/dead")[1]
            if request.method == "GET":
                return route.fulfill(json={"dead": letters})
            window.operated.append((request.method, path))
            letters[:] = [one for one in letters if f"/{one['partition']}/{one['entry']}" not in path]
            if request.method == "DELETE":
                return route.fulfill(status=204)
            route.fulfill(json={"id": "a1", "state": "queued"})

        window.page.route("**/v1/capabilities", capabilities)
        window.page.route("**/v1/dead**", dead)
        window.page.route("**/v1/dead/**", dead)

    return before


def live(browser):
    with browser.window("/monitor") as window:
        page = window.page
        page.wait_for_selector("#link[data-state=live]")
        expect(page.locator("#lanes tr").count() >= 2, "no lanes")
        page.wait_for_function(
            "() => [...document.querySelectorAll('.chart .series')].some(one => one.getAttribute('d').includes('L'))"
        )
        queues = json.loads(browser.site.get("/v1/queues"))
        expect(page.locator("#workers tr").count() == len(queues["workers"]), "the workers")
        window.picture("monitor", whole=True)
    with browser.window("/monitor", language="ja-JP", phone=True, dark=True) as window:
        window.page.wait_for_selector("#link[data-state=live]")
        expect("ワーカー" in window.page.inner_text("main"), "not in Japanese")
        expect(window.page.evaluate("document.documentElement.scrollWidth") <= 390, "wider than the phone")
        window.picture("monitor-phone", whole=True)


def dead_letters(browser):
    with browser.window("/monitor", before=with_letters(["read", "submit", "operate"])) as window:
        page = window.page
        page.wait_for_selector("#dead li >> nth=1")
        window.picture("monitor-dead", whole=True)
        page.click("text=Retry >> nth=0")
        page.wait_for_function("() => document.querySelectorAll('#dead li').length === 1")
        page.click("#dead button >> nth=1")
        expect(window.operated == [("POST", "/3/17-0/retry")], f"{window.operated}")
        page.click("text=Purge for good?")
        page.wait_for_function("() => document.querySelectorAll('#dead li').length === 0")
        expect(window.operated[-1] == ("DELETE", "/9/18-0"), f"{window.operated}")
        expect(page.locator("#no-dead").is_visible(), "no word that there are none")
    with browser.window("/monitor", before=with_letters(["read"])) as window:
        window.page.wait_for_selector("#dead li")
        expect(window.page.locator("#dead button").count() == 0, "buttons for who may not operate")


def stream_comes_back(browser):
    """The gateway goes away and comes back: the monitor says so and goes on."""

    def before(window):
        window.cut = [True]

        def handle(route):
            if window.cut:
                window.cut.pop()
                return route.abort("connectionreset")
            route.continue_()

        window.page.route("**/v1/events", handle)

    with browser.window("/monitor", before=before, expected=True) as window:
        window.notice("offline")
        window.page.click("#notice button")
        window.page.wait_for_selector("#link[data-state=live]")


CHECKS = [live, dead_letters, stream_comes_back]
