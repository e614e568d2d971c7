"""What is done with a picture."""

import base64
import io
import json
import tempfile
from pathlib import Path

import numpy
from PIL import Image

from driver import Failed, agreement, decode, expect

ORANGE, LEMON, APPLE, MUG = (470, 600), (920, 560), (140, 520), (630, 460)
MUG_BOX = ((520, 340), (795, 600))


def sample_file(site, folder):
    path = Path(folder) / "still-life.jpg"
    path.write_bytes(site.get("/samples/still-life.jpg"))
    return path


def start_in_three_languages(browser):
    for language, words in (("en-GB", "Choose a picture"), ("de-DE", "Bild wählen"), ("ja-JP", "画像を選ぶ"), ("fr-FR", "Choose a picture")):
        with browser.window(language=language) as window:
            expect(words in window.page.inner_text(".welcome"), f"{language}: no {words!r}")
            expect(window.page.get_attribute("html", "lang") == (language[:2] if language != "fr-FR" else "en"), "lang")
            window.page.wait_for_function("() => [...document.images].every(image => image.complete && image.naturalWidth > 0)")
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
                sent = []
                window.page.on("request", lambda request: sent.append((request.method, request.url, len(request.post_data_buffer or b""))))
                if way == "choose":
                    window.page.set_input_files("#file", path)
                else:
                    window.page.evaluate(transfer, [data, way])
                window.ready().click(*ORANGE).objects(1)
                uploads = [one for one in sent if one[1].endswith("/v1/images")]
                expect(len(uploads) == 1, f"{way}: {len(uploads)} uploads")
                large = [one for one in sent if one[1].endswith("/v1/segment") and one[2] > 2000]
                expect(not large, f"{way}: a click sent {large}")


def hover_shows_the_mask_and_click_keeps_it(browser):
    with browser.window() as window:
        window.sample()
        asked = []
        window.page.on("request", lambda request: request.url.endswith("/v1/segment") and asked.append(json.loads(request.post_data)))
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
        expect(max(abs(a - b) for a, b in zip(box, drawn)) < 2, f"the box is {box}, drawn was {drawn}")
        if site.kirie:
            mask = numpy.array(Image.open(window.download("mask", Path(folder) / "box.png"))) == 255
            share = agreement(mask, site.command_line(path, "--box", ",".join(map(str, box))))
            expect(share >= 0.99, f"IoU of the box's mask with the command line's is {share:.4f}")


def cutouts_and_coco(browser):
    with tempfile.TemporaryDirectory() as folder, browser.window() as window:
        path = sample_file(browser.site, folder)
        window.page.set_input_files("#file", path)
        window.ready().click(*LEMON).objects(1).page.keyboard.press("n")
        window.click(*ORANGE).objects(2).page.keyboard.press("n")
        name = window.page.locator("#objects input[type=text]").nth(0)
        name.fill("lemon")
        name.press("Enter")
        coco = json.loads(Path(window.download("coco", Path(folder) / "coco.json")).read_text())
        expect([one["name"] for one in coco["categories"]] == ["lemon", "Object 2"], f"{coco['categories']}")
        expect(coco["images"] == [{"id": 1, "file_name": "still-life.jpg", "width": 1024, "height": 768}], f"{coco['images']}")
        for one in coco["annotations"]:
            mask = decode(one["segmentation"])
            rows, columns = numpy.nonzero(mask)
            box = [int(columns.min()), int(rows.min()), int(numpy.ptp(columns)) + 1, int(numpy.ptp(rows)) + 1]
            expect(one["area"] == mask.sum() and one["bbox"] == box, f"area or box of {one['id']}: {one['bbox']}, {box}")
        window.page.click("#objects li:nth-child(1) .pick")
        cutout = Image.open(window.download("cutout", Path(folder) / "cutout.png"))
        first = coco["annotations"][0]
        x, y, width, height = first["bbox"]
        expect(cutout.mode == "RGBA" and cutout.size == (width, height), f"{cutout.mode} {cutout.size}")
        pixels = numpy.array(cutout).astype(int)
        alpha = decode(first["segmentation"])[y : y + height, x : x + width]
        expect(numpy.array_equal(pixels[..., 3] == 255, alpha), "the cut-out's alpha is not the mask")
        photo = numpy.array(Image.open(path).convert("RGB")).astype(int)[y : y + height, x : x + width]
        expect(abs(pixels[..., :3] - photo)[alpha].max() <= 4, "the cut-out's colours are not the picture's")
        window.context.grant_permissions(["clipboard-read", "clipboard-write"])
        window.page.click("[data-action=copy]")
        window.page.wait_for_selector("#toast.shown:has-text('Copied')")
        copied = window.page.evaluate(
            """async () => {
              const [item] = await navigator.clipboard.read();
              const image = await createImageBitmap(await item.getType('image/png'));
              return [image.width, image.height];
            }"""
        )
        expect(copied == [width, height], f"copied {copied}")


def take_away_undo_and_redo(browser):
    with browser.window() as window:
        window.sample()
        asked = []
        window.page.on("request", lambda request: request.url.endswith("/v1/segment") and "slot" not in request.post_data and asked.append(json.loads(request.post_data)))
        page = window.page
        window.click(*MUG).objects(1)
        first = window.areas()
        page.keyboard.down("Alt")
        window.click(590, 380).settled()
        page.keyboard.up("Alt")
        page.wait_for_function("area => document.querySelector('#objects li').dataset.area !== area", arg=str(first[0]))
        prompt = asked[-1]["prompts"][0]
        expect(prompt["labels"] == [1, 0], f"labels {prompt['labels']}")
        expect(set(prompt["mask"]) == {"job", "index"} and not asked[-1]["multimask"], f"the refinement sent {prompt.get('mask')}")
        second = window.areas()
        window.click(640, 560, button="right").settled()
        expect(asked[-1]["prompts"][0]["labels"] == [1, 0, 0], "the right button does not take away")
        page.keyboard.press("Control+z")
        page.keyboard.press("Control+z")
        expect(window.areas() == first, "undo does not give the first mask")
        page.keyboard.press("Control+y")
        expect(window.areas() == second, "redo does not give the second mask")
        page.keyboard.press("Control+z")
        page.click("#undo")
        window.objects(0)
        page.click("#redo")
        window.objects(1)
        page.click("[data-tool=remove]")
        window.click(590, 380).settled()
        expect(asked[-1]["prompts"][0]["labels"] == [1, 0], "the tool does not take away")


def several_objects(browser):
    with browser.window() as window:
        page = window.sample().page
        for number, place in enumerate((ORANGE, LEMON, APPLE, MUG), start=1):
            window.click(*place).objects(number)
            page.keyboard.press("n")
        page.mouse.move(640, 20)
        window.picture("several-objects")
        rows = page.locator("#objects li")
        colours = page.eval_on_selector_all("#objects input[type=color]", "all => all.map(one => one.value)")
        expect(len(set(colours)) == 4, f"colours {colours}")
        name = rows.nth(1).locator("input[type=text]")
        name.fill("lemon")
        name.press("Enter")
        rows.nth(1).locator("input[type=color]").fill("#123456")
        rows.nth(1).locator("[data-role=hide]").click()
        window.wait_painted("masks", *LEMON, painted=False)
        rows.nth(0).locator("[data-role=delete]").click()
        window.objects(3)
        state = "one => [one.querySelector('input[type=text]').value, one.querySelector('input[type=color]').value, one.classList.contains('hidden')]"
        expect(rows.nth(0).evaluate(state) == ["lemon", "#123456", True], f"{rows.nth(0).evaluate(state)}")
        for _ in range(4):
            page.click("#undo")
        expect(rows.nth(1).evaluate(state) == ["Object 2", colours[1], False], f"undo: {rows.nth(1).evaluate(state)}")
        for _ in range(4):
            page.click("#redo")
        expect(rows.nth(0).evaluate(state) == ["lemon", "#123456", True], "redo")
        page.click("#pieces")
        window.picture("pieces")
        page.click("#pieces")
        page.locator("#opacity").fill("0")
        window.wait_painted("masks", *ORANGE, painted=False)
        expect(not window.painted("masks", *APPLE), "opacity 0 still fills")


def readings(browser):
    with browser.window() as window:
        page = window.sample().page
        window.click(*MUG).objects(1)
        buttons = page.locator("#readings .reading")
        expect(buttons.count() == 3, f"{buttons.count()} readings")
        scores = [int(text.split()[0]) for text in buttons.all_inner_texts()]
        expect(scores == sorted(scores, reverse=True), f"scores {scores}")
        areas = window.areas()
        buttons.nth(1).click()
        expect(buttons.nth(1).get_attribute("aria-pressed") == "true", "the second is not chosen")
        second = window.areas()
        asked = []
        page.on("request", lambda request: request.url.endswith("/v1/segment") and "slot" not in request.post_data and asked.append(json.loads(request.post_data)))
        window.click(760, 480).settled()
        expect(asked[-1]["prompts"][0]["mask"]["index"] == 1, "the refinement is not of the chosen reading")
        page.click("#undo")
        expect(window.areas() == second, "undo to the second reading")
        page.click("#undo")
        expect(window.areas() == areas, "undo to the first reading")


def zoom_and_pan(browser):
    with browser.window() as window:
        page = window.sample().page
        view = lambda: tuple(map(float, page.get_attribute("#stage", "data-view").split()))
        whole = view()
        place = window.at(*LEMON)
        page.mouse.move(*place)
        page.mouse.wheel(0, -600)
        page.wait_for_function("before => Number(document.querySelector('#stage').dataset.view.split(' ')[0]) > before", arg=whole[0])
        expect(view()[0] > whole[0], "the wheel does not zoom")
        near = window.at(*LEMON)
        expect(max(abs(a - b) for a, b in zip(place, near)) < 1, f"the zoom moved what is under the pointer: {place}, {near}")
        window.picture("zoomed")
        before = view()
        page.keyboard.down("Space")
        page.mouse.down()
        page.mouse.move(place[0] - 90, place[1] - 60)
        page.mouse.up()
        page.keyboard.up("Space")
        moved = view()
        expect(abs(moved[1] - before[1] + 90) < 2 and abs(moved[2] - before[2] + 60) < 2, f"space and drag: {before}, {moved}")
        page.mouse.down(button="middle")
        page.mouse.move(place[0] - 60, place[1] - 60)
        page.mouse.up(button="middle")
        expect(abs(view()[1] - moved[1] - 30) < 2, "the middle button does not pan")
        expect(page.locator("#objects li").count() == 0, "panning clicked")
        window.click(*LEMON).objects(1)
        page.keyboard.press("0")
        expect(max(abs(a - b) for a, b in zip(view(), whole)) < 0.01, f"0 shows the whole picture: {view()}, {whole}")
        page.keyboard.press("+")
        page.keyboard.press("-")
        page.click("[data-action=zoomIn]")
        expect(view()[0] > whole[0], "the button does not zoom")


def links_bring_objects_back(browser):
    with browser.window() as window:
        page = window.sample().page
        window.context.grant_permissions(["clipboard-read", "clipboard-write"])
        window.click(*ORANGE).objects(1)
        page.locator("#readings .reading").nth(1).click()
        page.keyboard.press("n")
        window.drag(*MUG_BOX).objects(2).settled()
        page.keyboard.down("Alt")
        window.click(590, 380).settled()
        page.keyboard.up("Alt")
        name = page.locator("#objects input[type=text]").nth(1)
        name.fill("マグ")
        name.press("Enter")
        areas = window.areas()
        page.click("[data-action=link]")
        page.wait_for_selector("#toast.shown:has-text('link is copied')")
        link = page.evaluate("navigator.clipboard.readText()")
        expect(link == page.url and "#" in link, f"copied {link}")
    with browser.window(path=link[len(browser.site.url):]) as window:
        window.objects(2)
        window.page.wait_for_selector("#notice", state="hidden")
        expect(window.areas() == areas, f"areas {window.areas()}, were {areas}")
        expect(window.page.locator("#objects input[type=text]").nth(1).input_value() == "マグ", "the name")
        window.page.click("#objects li:nth-child(1) .pick")
        expect(window.page.locator("#readings .reading").nth(1).get_attribute("aria-pressed") == "true", "the reading")


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
        expect("predicted IoU" in page.wait_for_function("() => document.querySelector('#spoken').textContent.includes('IoU') && document.querySelector('#spoken').textContent").json_value(), "nothing is said")
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
        points = lambda spread: [{"x": x - spread, "y": y, "id": 1}, {"x": x + spread, "y": y, "id": 2}]
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
        page.tap("[data-tool=box]")


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
        page.wait_for_selector("body.waiting")
        window.ready().click(300, 400).objects(1)
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
    start_in_three_languages, light_and_dark, a_picture_comes_in_once, hover_shows_the_mask_and_click_keeps_it,
    masks_are_the_clusters_to_the_pixel, cutouts_and_coco, take_away_undo_and_redo, several_objects, readings, zoom_and_pan,
    links_bring_objects_back, keyboard_alone, phone, large_pictures, other_formats,
]
