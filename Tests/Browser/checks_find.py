"""Everything that is in a picture, and words for what is to be found."""

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


CHECKS = [everything_becomes_objects, words_find_things]
