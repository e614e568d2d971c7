"""What is done with a picture."""

import base64
import io
import json
import tempfile
from functools import partial
from pathlib import Path
from urllib.error import HTTPError

import numpy
from driver import Failed, agreement, decode, expect
from PIL import Image

ORANGE, LEMON, APPLE, MUG = (470, 600), (920, 560), (140, 520), (630, 460)
MUG_BOX = ((520, 340), (795, 600))


def sample_file(site, folder):
    path = Path(folder) / "still-life.jpg"
    path.write_bytes(site.get("/samples/still-life.jpg"))
    return path


def every_file_is_part_of_the_program(browser):
    """What lies in the tree is what is served: none was left out of the program, and it was built since."""
    folder = Path(__file__).resolve().parents[2] / "Sources/Gateway/Pages"
    places = {"index.html": "/", "monitor.html": "/monitor", "docs.html": "/docs"}
    for path in sorted(one for one in folder.rglob("*") if one.is_file()):
        name = path.relative_to(folder).as_posix()
        try:
            served = browser.site.get(places.get(name, f"/{name}"))
        except HTTPError as error:
            raise Failed(f"{name}: {error.code}") from error
        expect(served == path.read_bytes(), f"{name} is served otherwise than it lies here: build anew")


def start_in_three_languages(browser):
    for language, words in (
        ("en-GB", "Choose a picture"),
        ("de-DE", "Bild wählen"),
        ("ja-JP", "画像を選ぶ"),
        ("fr-FR", "Choose a picture"),
    ):
        with browser.window(language=language) as window:
            expect(words in window.page.inner_text(".welcome"), f"{language}: no {words!r}")
            expect(window.page.get_attribute("html", "lang") == (language[:2] if language != "fr-FR" else "en"), "lang")
            window.page.wait_for_function(
                "() => [...document.images].every(image => image.complete && image.naturalWidth > 0)"
            )
            window.picture(f"start-{language[:2]}")
    with browser.window() as window:
        window.page.select_option("#language", "ja")
        expect("画像を選ぶ" in window.page.inner_text(".welcome"), "the menu does not change the language")
        window.page.reload()
        expect("画像を選ぶ" in window.page.inner_text(".welcome"), "the language is not remembered")


def light_and_dark(browser):
    background = "getComputedStyle(document.body).backgroundColor"
    with browser.window(dark=True) as window:
        dark = window.page.evaluate(background)
        window.picture("start-dark")
        window.page.click("#theme")
        light = window.page.evaluate(background)
        expect(dark != light, f"dark and light are both {dark}")
        window.page.reload()
        expect(window.page.evaluate(background) == light, "the choice is not remembered")


def note_upload(uploads, request):
    if request.url.endswith("/v1/images"):
        uploads.append(request)


def a_picture_comes_in_once(browser):
    """By the chooser, dropped, pasted: one upload each, and clicks send no picture again."""
    with tempfile.TemporaryDirectory() as folder:
        path = sample_file(browser.site, folder)
        data = base64.b64encode(path.read_bytes()).decode()
        transfer = """([data, type]) => {
          const bytes = Uint8Array.from(atob(data), one => one.charCodeAt(0));
          const transfer = new DataTransfer();
          transfer.items.add(new File([bytes], 'photo.jpg', { type: 'image/jpeg' }));
          const options = { bubbles: true, cancelable: true, dataTransfer: transfer, clipboardData: transfer };
          const event = type === 'drop' ? new DragEvent('drop', options) : new ClipboardEvent('paste', options);
          document.querySelector('.welcome').dispatchEvent(event);
        }"""
        for way in ("choose", "drop", "paste"):
            with browser.window() as window:
                jobs, uploads = window.jobs(), []
                window.page.on("request", partial(note_upload, uploads))
                if way == "choose":
                    window.page.set_input_files("#file", path)
                else:
                    window.page.evaluate(transfer, [data, way])
                window.ready().click(*ORANGE).objects(1)
                expect(len(uploads) == 1, f"{way}: {len(uploads)} uploads")
                expect(all(job["image"].keys() == {"sha256"} for job in jobs), f"{way}: a click sent the picture")


def hover_shows_the_mask_and_click_keeps_it(browser):
    with browser.window() as window:
        window.sample()
        asked = window.jobs()
        window.page.mouse.move(*window.at(*MUG))
        window.wait_painted("live", *MUG)
        expect("slot" in asked[-1] and asked[-1]["multimask"], "a hover has a slot and asks for three masks")
        expect("refine" not in asked[-1], "a hover has its logits kept")
        window.picture("hover")
        window.page.mouse.move(*window.at(*ORANGE))
        window.wait_painted("live", *ORANGE).wait_painted("live", *MUG, painted=False)
        expect(window.page.locator("#objects li").count() == 0, "hovering made an object")
        looked = asked[-1]
        window.click(*ORANGE).objects(1).settled()
        clicked = next(one for one in asked if "slot" not in one)
        expect(clicked["refine"] and clicked["prompts"] == looked["prompts"], f"{looked} was shown, {clicked} clicked")
        window.page.mouse.move(640, 20)
        window.wait_painted("masks", *ORANGE)
        expect(not window.painted("masks", *APPLE), "the mask is elsewhere too")
        window.picture("one-object")


def masks_are_the_clusters_to_the_pixel(browser):
    """The downloaded mask against the gateway's answer (equal) and against `kirie segment` in its own process."""
    site = browser.site
    with tempfile.TemporaryDirectory() as folder, browser.window() as window:
        path = sample_file(site, folder)
        answers = []
        window.page.on("response", lambda answer: answer.url.endswith("/v1/segment") and answers.append(answer))
        window.page.set_input_files("#file", path)
        window.ready().click(*LEMON).objects(1)
        own = decode(json.loads(answers[-1].body())["masks"][0]["segmentation"])
        job = json.loads(answers[-1].request.post_data)
        job.pop("slot", None)
        again = decode(site.segment(job)["masks"][0]["segmentation"])
        picture = Image.open(window.download("mask", Path(folder) / "mask.png"))
        expect(picture.mode == "L" and picture.size == (1024, 768), f"the mask is {picture.mode} {picture.size}")
        mask = numpy.array(picture)
        expect(set(numpy.unique(mask)) == {0, 255}, "the mask has other values than 0 and 255")
        expect(numpy.array_equal(mask == 255, own) and numpy.array_equal(own, again), "the mask is not the answer's")
        x, y = job["prompts"][0]["points"][0]
        if site.kirie:
            alone = site.command_line(path, "--point", f"{x},{y}", "--multimask")
            share = agreement(mask == 255, alone)
            expect(share >= 0.99, f"IoU with the command line's mask is {share:.4f}")
        window.page.keyboard.press("n")
        window.drag(*MUG_BOX).objects(2).settled()
        box = json.loads(answers[-1].request.post_data)["prompts"][0]["box"]
        drawn = [*MUG_BOX[0], *MUG_BOX[1]]
        expect(max(abs(a - b) for a, b in zip(box, drawn, strict=True)) < 2, f"the box is {box}, drawn was {drawn}")
        if site.kirie:
            mask = numpy.array(Image.open(window.download("mask", Path(folder) / "box.png"))) == 255
            share = agreement(mask, site.command_line(path, "--box", ",".join(map(str, box))))
            expect(share >= 0.99, f"IoU of the box's mask with the command line's is {share:.4f}")


def zoom_and_pan(browser):
    with browser.window() as window:
        page = window.sample().page

        def view():
            return tuple(map(float, page.get_attribute("#stage", "data-view").split()))

        whole = view()
        place = window.at(*LEMON)
        page.mouse.move(*place)
        page.mouse.wheel(0, -600)
        page.wait_for_function(
            "before => Number(document.querySelector('#stage').dataset.view.split(' ')[0]) > before", arg=whole[0]
        )
        expect(view()[0] > whole[0], "the wheel does not zoom")
        near = window.at(*LEMON)
        expect(
            max(abs(a - b) for a, b in zip(place, near, strict=True)) < 1,
            f"the zoom moved what is under the pointer: {place}, {near}",
        )
        window.picture("zoomed")
        before = view()
        page.keyboard.down("Space")
        page.mouse.down()
        page.mouse.move(place[0] - 90, place[1] - 60)
        page.mouse.up()
        page.keyboard.up("Space")
        moved = view()
        expect(
            abs(moved[1] - before[1] + 90) < 2 and abs(moved[2] - before[2] + 60) < 2,
            f"space and drag: {before}, {moved}",
        )
        page.mouse.down(button="middle")
        page.mouse.move(place[0] - 60, place[1] - 60)
        page.mouse.up(button="middle")
        expect(abs(view()[1] - moved[1] - 30) < 2, "the middle button does not pan")
        expect(page.locator("#objects li").count() == 0, "panning clicked")
        window.click(*LEMON).objects(1)
        page.keyboard.press("0")
        expect(
            max(abs(a - b) for a, b in zip(view(), whole, strict=True)) < 0.01,
            f"0 shows the whole picture: {view()}, {whole}",
        )
        page.keyboard.press("+")
        page.keyboard.press("-")
        page.click("[data-action=zoomIn]")
        expect(view()[0] > whole[0], "the button does not zoom")


def keyboard_alone(browser):
    with browser.window() as window:
        page = window.page
        for _ in range(30):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.classList.contains('sample')"):
                break
        page.keyboard.press("Enter")
        window.ready()
        expect(page.evaluate("document.activeElement.id") == "stage", "the focus is not on the picture")
        with page.expect_request("**/v1/segment"):
            page.keyboard.press("ArrowRight")
        page.keyboard.press("Enter")
        window.objects(1).settled()
        # What was cut out is said, in words, to whoever does not see it.
        page.wait_for_function("() => document.querySelector('#spoken').textContent.includes('predicted IoU')")
        page.keyboard.press("r")
        expect(page.locator("#readings .reading").nth(1).get_attribute("aria-pressed") == "true", "R does not choose")
        page.keyboard.press("n")
        page.keyboard.press("b")
        page.keyboard.press("Enter")
        for key in ("Shift+ArrowRight", "Shift+ArrowRight", "Shift+ArrowDown", "Shift+ArrowDown"):
            page.keyboard.press(key)
        page.keyboard.press("Enter")
        window.objects(2).settled()
        page.keyboard.press("1")
        expect(page.locator("#objects li").nth(0).get_attribute("class").strip() == "active", "1 does not select")
        page.keyboard.press("Delete")
        window.objects(1)
        page.keyboard.press("Control+z")
        window.objects(2)
        page.keyboard.press("?")
        page.wait_for_selector("#help[open]")
        window.picture("help")
        page.keyboard.press("Escape")
        page.wait_for_selector("#help", state="hidden")


def phone(browser):
    with browser.window(phone=True, language="de-DE") as window:
        page = window.page
        window.picture("phone-start")
        expect(page.locator("[data-action=camera]").is_visible(), "no camera")
        page.tap("#samples li:nth-child(1) button")
        window.ready()
        width = page.evaluate("document.documentElement.scrollWidth")
        expect(width <= 390, f"the page is {width} wide")
        page.touchscreen.tap(*window.at(*ORANGE))
        window.objects(1).settled()
        expect(page.locator("#readings").is_visible(), "the readings are not seen")
        window.picture("phone-object")
        touch = window.context.new_cdp_session(page)
        before = page.get_attribute("#stage", "data-view")
        x, y = window.at(512, 384)

        def points(spread):
            return [{"x": x - spread, "y": y, "id": 1}, {"x": x + spread, "y": y, "id": 2}]

        for kind, spread in (("touchStart", 40), ("touchMove", 60), ("touchMove", 90), ("touchMove", 120)):
            touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points(spread)})
        touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
        page.wait_for_function("before => document.querySelector('#stage').dataset.view !== before", arg=before)
        scale = float(page.get_attribute("#stage", "data-view").split()[0]) / float(before.split()[0])
        expect(2.2 < scale < 3.4, f"a pinch to three times zoomed by {scale:.2f}")
        expect(page.locator("#objects li").count() == 1, "the pinch clicked")
        page.tap("[data-action=sheet]")
        page.wait_for_selector("#panel.open")
        window.picture("phone-objects")
        page.tap("#objects li [data-role=hide]")
        page.tap("[data-action=sheet]")
        page.wait_for_selector("#panel:not(.open)", state="attached")
        page.tap("[data-tool=box]")
        place = [window.at(*corner) for corner in ((560, 400), (700, 520))]
        with page.expect_request(lambda request: request.url.endswith("/v1/segment") and '"box"' in request.post_data):
            for kind, (x, y) in (("touchStart", place[0]), ("touchMove", place[1])):
                touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y, "id": 1}]})
            touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
        window.settled()
        expect(page.locator("#count").inner_text() == "1", "the box began another object than the active one")
        page.click("#undo")
        expect(page.locator("#undo").is_enabled(), "the box was no step of its own")


def large_pictures(browser):
    """50 megapixels open, are cut and zoomed; and a picture that lies on its side is turned."""
    with tempfile.TemporaryDirectory() as folder, browser.window() as window:
        page = window.page
        tile = Image.open(io.BytesIO(browser.site.get("/samples/still-life.jpg")))
        large = tile.resize((8192, 6144), Image.Resampling.BILINEAR)
        path = Path(folder) / "large.jpg"
        large.save(path, quality=70)
        page.set_input_files("#file", path)
        window.ready()
        page.mouse.move(*window.at(8 * LEMON[0], 8 * LEMON[1]))
        window.wait_painted("live", 8 * LEMON[0], 8 * LEMON[1])
        window.click(8 * LEMON[0], 8 * LEMON[1]).objects(1).settled()
        mask = Image.open(window.download("mask", Path(folder) / "mask.png"))
        expect(mask.size == (8192, 6144), f"mask of {mask.size}")
        expect(int((numpy.array(mask) == 255).sum()) == window.areas()[0], "the mask's pixels are not its area")
        page.mouse.move(*window.at(8 * LEMON[0], 8 * LEMON[1]))
        for _ in range(8):
            page.mouse.wheel(0, -240)
        page.wait_for_function("() => Number(document.querySelector('#stage').dataset.view.split(' ')[0]) > 0.5")
        window.picture("large-zoomed")
        turned = Path(folder) / "turned.jpg"
        exif = Image.Exif()
        exif[0x0112] = 6
        tile.save(turned, exif=exif)
        page.set_input_files("#file", turned)
        window.objects(0).ready().click(300, 400).objects(1)
        mask = Image.open(window.download("mask", Path(folder) / "turned.png"))
        expect(mask.size == (768, 1024), f"the turned picture's mask is {mask.size}")


def other_formats(browser):
    """What the browser reads and the cluster does not is sent as PNG; what is no picture is refused with words."""
    with tempfile.TemporaryDirectory() as folder, browser.window(expected=True) as window:
        image = Image.open(io.BytesIO(browser.site.get("/samples/still-life.jpg"))).resize((320, 240))
        path = Path(folder) / "small.gif"
        image.save(path)
        window.page.set_input_files("#file", path)
        window.ready().click(145, 187).objects(1)
        wrong = Path(folder) / "wrong.png"
        wrong.write_bytes(b"This is no picture.")
        window.page.set_input_files("#file", wrong)
        window.notice("failed")
        window.picture("failed")


CHECKS = [
    every_file_is_part_of_the_program,
    start_in_three_languages,
    light_and_dark,
    a_picture_comes_in_once,
    hover_shows_the_mask_and_click_keeps_it,
    masks_are_the_clusters_to_the_pixel,
    zoom_and_pan,
    keyboard_alone,
    phone,
    large_pictures,
    other_formats,
]
