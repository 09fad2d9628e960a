"""Makes the demo model again, from the art to the measured numbers: ``python dev.py train``.

Steps, each of which goes on where it was interrupted: vae, unet, detector, export, validate, card. About two hours
on two CPU cores. Work files lie in ``out/train``; what ships is written to ``demo/``.
"""

from __future__ import annotations

import argparse
import json

import host


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    steps = ("vae", "unet", "detector", "export", "validate", "card")
    parser.add_argument("steps", nargs="*", choices=[*steps, "all"], default="all")
    parser.add_argument("--work", default=host.ROOT / "out" / "train", type=type(host.ROOT), help="work files")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    options = parser.parse_args()
    chosen = steps if "all" in options.steps else [step for step in steps if step in options.steps]
    options.work.mkdir(parents=True, exist_ok=True)
    for step in chosen:
        print(f"== {step}", flush=True)
        STEPS[step](options.work)
    if options.json:
        print(json.dumps({"steps": list(chosen), "out": str(host.DEMO)}))


def _vae(work):
    import vae

    vae.train(work)


def _unet(work):
    import unet

    unet.train(work)


def _detector(work):
    import detector

    detector.train(work)


def _export(work):
    import export

    export.write(work, {})


def _validate(work):
    import export
    import validate

    validate.run(work)
    report = json.loads((host.DEMO / "validation.json").read_text())
    export.write(work, {**report["chosen"], "sigma": report["sigma"]})


def _card(work):
    import card

    card.write(work)


STEPS = {"vae": _vae, "unet": _unet, "detector": _detector, "export": _export, "validate": _validate, "card": _card}

if __name__ == "__main__":
    main()
