"""The templates' pictures, from real runs: ``python -m lab.tools.thumbnails [NAME...]`` after ``dev.py demo``.

Each template runs on the real server as it is, with seed 0; where it wants a checkpoint of the user's, the demo
model takes its place. Nothing is picked: a picture shows the first images of that one run.
"""

import io
import json
import os
import sys

from PIL import Image, ImageDraw, ImageFont, ImageOps

from .environment import ROOT, prepare
from .server import Server
from .ui_to_api import ui_to_api

SIDE = 256
# What each picture is put together from, row by row: (title of the saving or previewing node, image, words on it).
LAYOUTS = {
    "gsn_two_nodes": [[("Save Image", 0, ""), ("Save Image", 1, "")], [("Save Image", 2, ""), ("Save Image", 3, "")]],
    "gsn_before_after": [
        [("Plain", 0, "plain"), ("Plain", 1, "plain")],
        [("Refined", 0, "refined"), ("Refined", 1, "refined")],
    ],
    "gsn_four_methods": [[(name, 0, name) for name in row] for row in (("paper", "Attend&Excite"), ("InitNO", "SAGA"))],
    "gsn_better_noise": [[(name, i, name) for i in range(4)] for name in ("plain", "best of 16", "InitNO")],
    "gsn_saga": [[(name, i, name) for i in range(4)] for name in ("plain", "distribution", "distribution, guided")],
    "gsn_no_gradients": [[(name, i, name) for i in range(4)] for name in ("plain", "TACA", "DeLeaker")],
    "gsn_sweep": [
        [("Save Image", 4 * (2 * i + j), name) for j, name in enumerate(row)]
        for i, row in enumerate((("plain", "fast @ 0"), ("fast @ 8", "Ours+")))
    ],
    "gsn_success_rate": [[("Plain", 0, "plain")], [("Refined", 0, "refined")]],
    "gsn_best_step": [[("GSN Step Selection", 0, "")]],
    "gsn_block_probe": [[("GSN Block Probe", 0, "")]],
    "gsn_your_checkpoint": [[("GSN Heatmaps", 0, "")]],
}


def main(names):
    environment = prepare(os.environ.get("GSN_COMFYUI"))
    with Server(environment) as server:
        info = server.get("/object_info")
        for name, layout in LAYOUTS.items():
            if names and name not in names:
                continue
            template = ROOT / "workflows" / f"{name}.json"
            prompt = ui_to_api(json.loads(template.read_text()), info)
            on_demo_model(prompt)
            found = pictures(server, prompt, server.run(prompt))
            compose(layout, found).save(template.with_suffix(".jpg"), quality=88, optimize=True)
            print(template.with_suffix(".jpg"))


def on_demo_model(prompt):
    """A checkpoint loader becomes the demo model, with the settings that were measured for it."""
    measured = json.loads((ROOT / "demo" / "validation.json").read_text())["chosen"]
    loaders = [node for node in prompt.values() if node["class_type"] == "CheckpointLoaderSimple"]
    for loader in loaders:
        loader["class_type"], loader["inputs"] = "GSNDemoModel", {"which": "unet"}
    for node in prompt.values():
        if loaders:
            own = {"width": 128, "height": 128, "cfg": measured["cfg"], "lr": measured["lr"]}
            node["inputs"] |= {key: value for key, value in own.items() if key in node["inputs"]}
        if "seed" in node["inputs"]:
            node["inputs"]["seed"] = 0


def pictures(server, prompt, outputs):
    """{title of a node: its images}."""
    return {
        prompt[node_id]["_meta"]["title"]: [Image.open(io.BytesIO(server.image(e))) for e in output["images"]]
        for node_id, output in outputs.items()
        if output.get("images")
    }


def compose(layout, found):
    if len(layout) == len(layout[0]) == 1:  # one sheet
        ((title, number, _),) = layout[0]
        wide = found[title][number].convert("RGB")
        if title != "GSN Heatmaps":
            return ImageOps.pad(wide, (2 * SIDE, 2 * SIDE), Image.Resampling.LANCZOS, wide.getpixel((0, 0)))
        # a sheet of maps is very wide: its last subject goes below the others
        cut = wide.width * 3 // 5
        paper = Image.new("RGB", (cut, 2 * wide.height), wide.getpixel((0, 0)))
        paper.paste(wide.crop((0, 0, cut, wide.height)))
        paper.paste(wide.crop((cut, 0, wide.width, wide.height)), (0, wide.height))
        return ImageOps.pad(paper, (2 * SIDE, 2 * SIDE), Image.Resampling.LANCZOS, wide.getpixel((0, 0)))
    if len(layout[0]) == 1:
        return stacked([(found[title][number].convert("RGB"), words) for ((title, number, words),) in layout])
    sheet = Image.new("RGB", (SIDE * len(layout[0]), SIDE * len(layout)), "white")
    draw = ImageDraw.Draw(sheet)
    for y, row in enumerate(layout):
        for x, (title, number, words) in enumerate(row):
            image = found[title][number].convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC)
            sheet.paste(image, (x * SIDE, y * SIDE))
            draw.text((x * SIDE + 8, y * SIDE + 6), words, (60, 60, 64), ImageFont.load_default(18))
    return sheet


def stacked(sheets):
    """Wide sheets, each below its words, on a square."""
    room, head = 2 * SIDE // len(sheets), 26
    paper = Image.new("RGB", (2 * SIDE, 2 * SIDE), sheets[0][0].getpixel((0, 0)))
    draw = ImageDraw.Draw(paper)
    for n, (sheet, words) in enumerate(sheets):
        draw.text((8, n * room + 6), words, (60, 60, 64), ImageFont.load_default(18))
        fit = ImageOps.contain(sheet, (2 * SIDE, room - head), Image.Resampling.LANCZOS)
        paper.paste(fit, ((2 * SIDE - fit.width) // 2, n * room + head))
    return paper


if __name__ == "__main__":
    main(sys.argv[1:])
