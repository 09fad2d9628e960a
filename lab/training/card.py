"""A model's card and its three pictures, from the numbers that validation wrote.

The UNet's is ``demo/README.md``, the MM-DiT's ``demo/MMDIT.md``.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import art
import detector
import fit
import host
import scenes
import torch
import vae
from latents import decode
from models import DemoModel
from PIL import Image, ImageDraw

INK, GRID, BLUE, GREEN, RED = (40, 40, 40), (215, 215, 215), (36, 98, 176), (30, 150, 70), (200, 50, 50)


CARDS = {"unet": ("card.md", "README.md"), "mmdit": ("card_mmdit.md", "MMDIT.md")}


def write(model: DemoModel, work: Path) -> None:
    report = json.loads(model.report.read_text())
    pictures = {
        "step_curve": curve(report, model), "training_loss": losses(work, model),
        "samples": sheet(work, report, model).quantize(128),
    }
    for name, picture in pictures.items():
        picture.save(host.DEMO / f"{prefix(model)}{name}.png", optimize=True)
    source, target = CARDS[model.kind]
    template = (Path(__file__).parent / source).read_text()
    for name, value in values(work, report, model).items():
        template = template.replace("{{" + name + "}}", value)
    (host.DEMO / target).write_text(template)


def prefix(model: DemoModel) -> str:
    return "" if model.name == "unet" else f"{model.name}_"


def percent(cell: dict) -> str:
    return f"{100 * cell['success']:.1f} [{100 * cell['low']:.1f}, {100 * cell['high']:.1f}]"


def values(work: Path, report: dict, model: DemoModel) -> dict[str, str]:
    """What the card's ``{{names}}`` stand for."""
    chosen, test, plain = report["chosen"], report["test"], report["test"]["plain"]
    last = json.loads((work / f"{model.name}.jsonl").read_text().splitlines()[-1])
    psnr = json.loads((work / "vae.jsonl").read_text().splitlines()[-1])["psnr"]
    network = sum(p.numel() for p in model.load(work).network.parameters())
    return {
        "curve": curve_table(report, model), "validation": validation_table(report), "pairs": pair_table(report),
        "detector": detector_table(report), "verdict": verdict(report), "pictures": prefix(model),
        "typical": typical_prompt(report), "parameters": f"{network / 1e6:.2f}",
        "step": str(chosen["step"]), "first": str(model.first), "sigma": f"{report['sigma']:.3f}",
        "t": f"{model.sampler.schedule[chosen['step']]:.0f}",
        "lr": str(chosen["lr"]), "cfg": str(chosen["cfg"]), "slice": chosen["slice"],
        "n": str(plain["n"]), "prompts": str(len(test["prompts"])), "nouns": ", ".join(scenes.NOUNS),
        "nouns_count": str(len(fit.token_ids())),
        "keep": f"{100 * scenes.KEEP_BOTH:.0f}", "one": f"{100 * scenes.ONE_NOUN:.0f}",
        "two": f"{100 - 100 * scenes.ONE_NOUN:.0f}", "captioned": str(len(scenes.CAPTIONED)),
        "held": str(len(scenes.HELD_OUT)), "chooser_pairs": str(len(scenes.VALIDATION_PAIRS)),
        "test_pairs": str(len(scenes.TEST_PAIRS)), "art": art.fingerprint()[:16], "psnr": f"{psnr:.1f}",
        "vae_its": str(vae.ITERATIONS), "its": str(model.recipe.iterations), "batch": str(fit.BATCH),
        "by_t": " ".join(f"{v:.4f}" for v in last["by_t"]),
        "size": f"{model.file.stat().st_size / 1e6:.1f}",
        "detector_size": f"{detector.FILE.stat().st_size / 1e6:.2f}",
    }


def at_chosen_step(report: dict) -> dict:
    """The curve's cell at the step that validation chose."""
    return next(c for c in report["test"]["curve"] if c["step"] == report["chosen"]["step"])


def typical_prompt(report: dict) -> str:
    """The test prompt whose rates, plain and refined, lie nearest the averages over all of them."""
    test, seeds = report["test"], len(report["test"]["seeds"])
    refined = at_chosen_step(report)

    def distance(number: int) -> float:
        part = slice(number * seeds, (number + 1) * seeds)
        cells = (test["plain"], refined)
        return sum(abs(sum(map(all, cell["found"][part])) / seeds - cell["success"]) for cell in cells)

    return test["prompts"][min(range(len(test["prompts"])), key=distance)]


def verdict(report: dict) -> str:
    """The demands of the project on this model, each with yes or no."""
    plain, curve = report["test"]["plain"], report["test"]["curve"]
    best = max(curve, key=lambda c: c["success"])
    default = at_chosen_step(report)
    gain = 100 * (default["success"] - plain["success"])
    lines = [
        ("plain success between 15 and 60 %", 0.15 <= plain["success"] <= 0.60, percent(plain)),
        ("the method at the default step at least 10 points better", gain >= 10, f"{gain:+.1f} points"),
        ("95 % intervals do not overlap", default["low"] > plain["high"],
         f"{percent(default)} against {percent(plain)}"),
        ("the best step is neither the first nor the last", curve[0] is not best and curve[-1] is not best,
         f"step {best['step']}"),
    ]
    return "\n".join(f"- {what}: **{'yes' if ok else 'no'}** ({number})" for what, ok, number in lines)


def curve_table(report: dict, model: DemoModel) -> str:
    plain = report["test"]["plain"]
    rows = ["| cell | success % [95 % CI] | nouns found % | won | lost | p | loss before → after |",
            "|---|---|---|---|---|---|---|",
            f"| plain | {percent(plain)} | {100 * plain['entities']:.1f} | | | | |"]
    for c in report["test"]["curve"]:
        mark = "**" if c["step"] == report["chosen"]["step"] else ""
        name = f"{mark}step {c['step']}{mark} (t {model.sampler.schedule[c['step']]:.0f})"
        rows.append(f"| {name} | {percent(c)} | {100 * c['entities']:.1f} | {c['won']} | {c['lost']} | {c['p']:.2g} | "
                    f"{c['loss_before']:.3f} → {c['loss_after']:.3f} |")
    return "\n".join(rows)


def validation_table(report: dict) -> str:
    rows = ["| cell | n | success % [95 % CI] |", "|---|---|---|"]
    rows += [f"| {name} | {c['n']} | {percent(c)} |" for name, c in report["validation"]["cells"].items()]
    return "\n".join(rows)


def pair_table(report: dict) -> str:
    """Success per test prompt, plain and at the chosen step, and which noun went missing in plain sampling."""
    test, seeds = report["test"], len(report["test"]["seeds"])
    refined = at_chosen_step(report)["found"]
    rows = ["| prompt | plain | refined | plain: first noun found | second noun found |", "|---|---|---|---|---|"]
    for i, prompt in enumerate(test["prompts"]):
        a, b = (found[i * seeds:(i + 1) * seeds] for found in (test["plain"]["found"], refined))
        rows.append(f"| {prompt} | {sum(map(all, a))}/{seeds} | {sum(map(all, b))}/{seeds} | "
                    f"{sum(x for x, _ in a)} | {sum(x for _, x in a)} |")
    return "\n".join(rows)


def detector_table(report: dict) -> str:
    rows = ["| pictures | n | nouns shown | found | nouns absent | false alarms |", "|---|---|---|---|---|---|"]
    rows += [f"| {name} | {c['pictures']} | {c['shown']} | {c['found']} | {c['absent']} | {c['false']} |"
             for name, c in report["detector"].items()]
    return "\n".join(rows)


def axes(title: str, xs, x_name: str, top: float, ticks, label) -> tuple:
    """An empty plot and the function that maps a point into it."""
    image = Image.new("RGB", (560, 340), "white")
    draw = ImageDraw.Draw(image)
    low, high = min(xs), max(xs)

    def at(x, y):
        return 60 + (x - low) / (high - low) * 470, 290 - y / top * 240

    for tick in ticks:
        draw.line([at(low, tick), at(high, tick)], GRID)
        draw.text((12, at(low, tick)[1] - 6), label(tick), INK)
    draw.text((60, 14), title, INK)
    draw.text((260, 318), x_name, INK)
    return image, draw, at


def curve(report: dict, model: DemoModel) -> Image.Image:
    plain, cells = report["test"]["plain"], report["test"]["curve"]
    steps = [c["step"] for c in cells]
    image, draw, at = axes("Success on the test prompts by the step of refinement, 95 % intervals", steps,
                           f"step of {len(model.sampler.schedule)}", 1.0, [0, 0.2, 0.4, 0.6, 0.8, 1.0],
                           lambda v: f"{100 * v:.0f} %")
    band = Image.new("RGBA", image.size, (0, 0, 0, 0))
    ImageDraw.Draw(band).rectangle([at(steps[0], plain["high"]), at(steps[-1], plain["low"])], fill=(120, 120, 120, 70))
    image.paste(Image.alpha_composite(image.convert("RGBA"), band).convert("RGB"))
    draw.line([at(steps[0], plain["success"]), at(steps[-1], plain["success"])], INK)
    draw.text((at(steps[-1], plain["success"])[0] - 40, at(0, plain["success"])[1] + 3), "plain", INK)
    draw.line([at(c["step"], c["success"]) for c in cells], BLUE, 2)
    for c in cells:
        x, y = at(c["step"], c["success"])
        draw.line([at(c["step"], c["low"]), at(c["step"], c["high"])], BLUE, 2)
        draw.ellipse([x - 4, y - 4, x + 4, y + 4], fill=BLUE)
        draw.text((x - 6, 296), str(c["step"]), INK)
    return image


def losses(work: Path, model: DemoModel) -> Image.Image:
    """Running prediction error by tenth of the schedule, on a logarithmic axis from 1e-4 to 1."""
    lines = map(json.loads, (work / f"{model.name}.jsonl").read_text().splitlines())
    log = sorted({line["i"]: line for line in lines}.values(), key=lambda r: r["i"])  # resumed runs repeat some
    image, draw, at = axes("Training: mean squared error, by t", [r["i"] for r in log], "iteration", 4.0,
                           [0, 1, 2, 3, 4], lambda v: f"{10 ** (v - 4):g}")
    for place, (tenth, colour) in enumerate(((9, INK), (0, RED), (2, GREEN), (5, BLUE))):
        draw.line([at(r["i"], max(0.0, 4 + math.log10(r["by_t"][tenth]))) for r in log], colour, 2)
        draw.text((60 + 110 * place, 32), f"t {100 * tenth}-{100 * tenth + 100}", colour)
    for i in range(0, log[-1]["i"] + 1, 1000):
        draw.text((at(i, 0)[0] - 10, 296), str(i), INK)
    return image


def sheet(work: Path, report: dict, model: DemoModel) -> Image.Image:
    """Every test prompt's first seed, plain above refined; the frame is the detector's verdict."""
    chosen, test = report["chosen"], report["test"]
    names = [f"plain, CFG {chosen['cfg']}",
             f"step {chosen['step']}, lr {chosen['lr']}, CFG {chosen['cfg']}, {chosen['slice']}"]
    refined = at_chosen_step(report)
    tae, seeds, columns, cell = vae.load(work), len(test["seeds"]), 10, 136
    count = len(test["prompts"])
    image = Image.new("RGB", (columns * cell, -(-count // columns) * 2 * (cell + 14)), "white")
    draw = ImageDraw.Draw(image)
    for row, (name, found) in enumerate(zip(names, (test["plain"]["found"], refined["found"]), strict=True)):
        pictures = decode(tae, torch.load(work / f"{model.name}-test-first-seed" / f"{name}.pt"))
        for i, picture in enumerate(pictures):
            x, y = i % columns * cell, (i // columns * 2 + row) * (cell + 14)
            draw.rectangle([x, y, x + 133, y + 133], fill=GREEN if all(found[i * seeds]) else RED)
            image.paste(Image.fromarray((picture.numpy() * 255).astype("uint8")), (x + 3, y + 3))
            said = " + ".join(w for w in test["prompts"][i].split() if w in scenes.NOUNS)
            draw.text((x + 3, y + 135), ("plain: " if row == 0 else "refined: ") + said, INK)
    return image
