"""axe (WCAG A and AA) on both pages in their states: nothing serious or critical."""

from axe_playwright_python.sync_playwright import Axe
from driver import expect

ORANGE = (470, 600)


def examine(window, where):
    results = Axe().run(window.page).response
    serious = [one for one in results["violations"] if one["impact"] in ("serious", "critical")]
    words = [f"{one['id']}: {', '.join(node['html'][:90] for node in one['nodes'][:3])}" for one in serious]
    expect(not serious, f"axe, {where}: {'; '.join(words)}")


def axe_finds_nothing_serious(browser):
    for dark in (False, True):
        with browser.window(dark=dark) as window:
            colour = "dark" if dark else "light"
            examine(window, f"start, {colour}")
            window.sample().click(*ORANGE).objects(1).settled()
            window.page.mouse.move(640, 20)
            examine(window, f"one object, {colour}")
            window.page.keyboard.press("n")
            examine(window, f"no active object, {colour}")
            window.page.keyboard.press("?")
            examine(window, f"help, {colour}")
        with browser.window("/monitor", dark=dark) as window:
            window.page.wait_for_selector("#lanes tr")
            examine(window, f"monitor, {colour}")
    with browser.window(path=None) as window:
        window.page.goto(browser.site.url + "/docs")
        window.page.wait_for_selector("details")
        examine(window, "the interface's page")
        window.picture("docs")
    with browser.window(phone=True, language="ja-JP") as window:
        examine(window, "start on a phone")
        window.page.tap("#samples li:nth-child(1) button")
        window.ready().page.touchscreen.tap(*window.at(*ORANGE))
        window.objects(1).settled()
        examine(window, "one object on a phone")
        window.page.tap("[data-action=sheet]")
        window.page.wait_for_selector("#panel.open")
        examine(window, "the objects on a phone")


CHECKS = [axe_finds_nothing_serious]
