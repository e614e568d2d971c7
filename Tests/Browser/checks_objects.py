"""What is done to objects, and what is taken away of them."""

import json
import tempfile
from pathlib import Path

import numpy
from checks_page import APPLE, LEMON, MUG, MUG_BOX, ORANGE, sample_file
from driver import decode, expect
from PIL import Image


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
        expect(
            coco["images"] == [{"id": 1, "file_name": "still-life.jpg", "width": 1024, "height": 768}],
            f"{coco['images']}",
        )
        for one in coco["annotations"]:
            mask = decode(one["segmentation"])
            rows, columns = numpy.nonzero(mask)
            box = [int(columns.min()), int(rows.min()), int(numpy.ptp(columns)) + 1, int(numpy.ptp(rows)) + 1]
            expect(
                one["area"] == mask.sum() and one["bbox"] == box, f"area or box of {one['id']}: {one['bbox']}, {box}"
            )
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
        asked = window.jobs(clicks_alone=True)
        page = window.page
        window.click(*MUG).objects(1)
        first = window.areas()
        page.keyboard.down("Alt")
        window.click(590, 380).settled()
        page.keyboard.up("Alt")
        page.wait_for_function("area => document.querySelector('#objects li').dataset.area !== area", arg=str(first[0]))
        prompt = asked[-1]["prompts"][0]
        expect(prompt["labels"] == [1, 0], f"labels {prompt['labels']}")
        expect(
            set(prompt["mask"]) == {"job", "index"} and not asked[-1]["multimask"],
            f"the refinement sent {prompt.get('mask')}",
        )
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
            page.click("#next")
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
        state = """one => {
          const value = (type) => one.querySelector(`input[type=${type}]`).value;
          return [value('text'), value('color'), one.classList.contains('hidden')];
        }"""
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
        asked = window.jobs(clicks_alone=True)
        window.click(760, 480).settled()
        expect(asked[-1]["prompts"][0]["mask"]["index"] == 1, "the refinement is not of the chosen reading")
        page.click("#undo")
        expect(window.areas() == second, "undo to the second reading")
        page.click("#undo")
        expect(window.areas() == areas, "undo to the first reading")


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
    with browser.window(path=link[len(browser.site.url) :]) as window:
        window.objects(2)
        window.page.wait_for_selector("#notice", state="hidden")
        expect(window.areas() == areas, f"areas {window.areas()}, were {areas}")
        expect(window.page.locator("#objects input[type=text]").nth(1).input_value() == "マグ", "the name")
        window.page.click("#objects li:nth-child(1) .pick")
        expect(window.page.locator("#readings .reading").nth(1).get_attribute("aria-pressed") == "true", "the reading")


CHECKS = [take_away_undo_and_redo, several_objects, readings, links_bring_objects_back, cutouts_and_coco]
