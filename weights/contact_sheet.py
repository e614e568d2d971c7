"""Makes contact_sheet.jpg: what kirie-tiny makes of clicks and boxes on the project's own pictures, drawn by the program.

    python3 weights/contact_sheet.py --kirie .build/release/kirie --out weights/contact_sheet.jpg

Needs Pillow. A click shows the mask of the highest score among three. The prompts were written down once, before the masks
were seen, and none was left out.
"""

import argparse
import json
import pathlib
import subprocess
import tempfile

from PIL import Image, ImageChops, ImageDraw, ImageFilter

SAMPLES = pathlib.Path(__file__).resolve().parent.parent / "Sources/Gateway/Pages/samples"
PROMPTS = {
    "still-life.jpg": [
        (317, 301), (137, 519), (465, 588), (622, 451), (806, 369), (918, 553), (786, 123),
        (519, 339, 793, 595), (89, 332, 458, 506),
    ],
    "tea.jpg": [
        (367, 350), (495, 683), (171, 700), (1022, 396), (1128, 658), (1025, 743),
        (783, 302, 1142, 504), (649, 398, 926, 632),
    ],
    "paper-landscape.jpg": [
        (871, 227), (427, 432), (103, 484), (837, 649), (880, 560), (313, 154),
        (718, 458, 957, 685),
    ],
}
COLUMNS, WIDTH = 6, 280


def answered(kirie, model, picture, prompt, folder):
    """The best mask of a prompt as a picture of black and white, and its score."""
    words = ["--box" if len(prompt) == 4 else "--point", ",".join(map(str, prompt))]
    if len(prompt) == 2:
        words.append("--multimask")
    out = folder / "mask.png"
    run = subprocess.run(
        [kirie, "segment", str(picture), "--model", model, "--json", "-o", str(out), *words],
        check=True, capture_output=True, text=True,
    )
    # The best comes first.
    return Image.open(out if out.exists() else folder / "mask-1.png").convert("L"), json.loads(run.stdout)["masks"][0]["score"]


def cell(picture, mask, prompt, score):
    """The picture with its mask, the mask's outline and the prompt, WIDTH pixels wide."""
    tinted = Image.blend(picture, Image.new("RGB", picture.size, (255, 120, 0)), 0.5)
    shown = Image.composite(tinted, picture, mask)
    edge = ImageChops.subtract(mask.filter(ImageFilter.MaxFilter(5)), mask)
    shown.paste((255, 255, 255), mask=edge)
    pen = ImageDraw.Draw(shown)
    if len(prompt) == 4:
        pen.rectangle(prompt, outline=(0, 255, 0), width=6)
    else:
        x, y = prompt
        pen.ellipse((x - 15, y - 15, x + 15, y + 15), fill=(255, 255, 255))
        pen.ellipse((x - 11, y - 11, x + 11, y + 11), fill=(0, 160, 0))
    height = round(picture.height * WIDTH / picture.width)
    result = Image.new("RGB", (WIDTH, height + 14), "white")
    result.paste(shown.resize((WIDTH, height), Image.LANCZOS), (0, 14))
    ImageDraw.Draw(result).text((2, 1), f"score {score:.2f}", fill="black")
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kirie", required=True)
    parser.add_argument("--model", default="kirie-tiny")
    parser.add_argument("--out", type=pathlib.Path, required=True)
    arguments = parser.parse_args()
    cells = []
    for name, prompts in PROMPTS.items():
        picture = Image.open(SAMPLES / name).convert("RGB")
        for prompt in prompts:
            with tempfile.TemporaryDirectory() as folder:
                mask, score = answered(
                    arguments.kirie, arguments.model, SAMPLES / name, prompt, pathlib.Path(folder))
            cells.append(cell(picture, mask, prompt, score))
    rows = [cells[i : i + COLUMNS] for i in range(0, len(cells), COLUMNS)]
    heights = [max(each.height for each in row) for row in rows]
    sheet = Image.new("RGB", (COLUMNS * (WIDTH + 6), sum(heights) + 6 * len(rows)), "white")
    top = 0
    for row, height in zip(rows, heights):
        for column, each in enumerate(row):
            sheet.paste(each, (column * (WIDTH + 6), top))
        top += height + 6
    sheet.save(arguments.out, quality=82, optimize=True)


if __name__ == "__main__":
    main()
