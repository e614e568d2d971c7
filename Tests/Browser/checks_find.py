"""Everything that is in a picture, and words for what is to be found."""

import json

from checks_page import LEMON
from driver import expect


def everything_becomes_objects(browser):
    with browser.window() as window:
        page = window.sample().page
        page.click("#everything")
        page.wait_for_function("() => document.querySelectorAll('#objects li').length > 5")
        window.picture("everything")
        before = page.locator("#objects li").count()
        page.keyboard.press("Control+z")
        page.wait_for_function("(before) => document.querySelectorAll('#objects li').length < before", arg=before)


def words_find_things(browser):
    with browser.window() as window:
        page = window.sample().page
        field = page.locator("#find input")
        field.fill("lemon")
        field.press("Enter")
        page.wait_for_function("() => document.querySelectorAll('#objects li').length > 0")
        name = page.locator("#objects input[type=text]").nth(0).input_value()
        expect("lemon" in name, f"the object is called {name}")
        window.picture("text")


def a_vocabulary_names_things(browser):
    with browser.window() as window:
        page = window.sample().page
        field = page.locator("#find input")
        field.fill("lemon, cup , car")
        field.press("Enter")
        page.wait_for_function("() => document.querySelectorAll('#objects li').length > 1")
        fields = page.locator("#objects input[type=text]")
        names = {fields.nth(index).input_value() for index in range(fields.count())}
        expect("lemon" in names and names <= {"lemon", "cup"}, f"the objects are called {names}")
        window.picture("vocabulary")


def a_closer_look_is_a_step(browser):
    """The object is answered on the part of the picture around it; it can be undone, and a link says so."""
    with browser.window() as window:
        asked = []
        window.page.on("request", lambda request: asked.append(request.post_data or "")
                       if request.url.endswith("/v1/segment") else None)
        page = window.sample().click(*LEMON).objects(1).page
        before = page.get_attribute("#objects li", "data-area")
        page.click("#objects li [data-role=closer]")
        page.wait_for_function("() => !document.querySelector('#objects li [data-role=closer]')")
        jobs = [json.loads(body) for body in asked if '"tile"' in body]
        expect(len(jobs) == 1 and jobs[0]["tile"] == "auto" and "mask" not in jobs[0]["prompts"][0], f"{jobs}")
        after = page.get_attribute("#objects li", "data-area")
        expect(0.7 < int(after) / int(before) < 1.4, f"{before} pixels became {after}")
        window.picture("closer")
        page.keyboard.press("Control+z")
        page.wait_for_selector("#objects li [data-role=closer]")
        expect(page.get_attribute("#objects li", "data-area") == before, "undone, it is what it was")


CHECKS = [everything_becomes_objects, words_find_things, a_vocabulary_names_things, a_closer_look_is_a_step]
