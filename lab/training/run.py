"""Makes the demo models again, from the art to the measured numbers: ``python dev.py train``.

Steps, each of which goes on where it was interrupted: vae and detector, which the models share; then for each model
train, export, validate, card. About two hours a model on two CPU cores. Work files lie in ``out/train``; what ships is
written to ``demo/``.
"""

from __future__ import annotations

import argparse
import json

import host

STEPS = ("vae", "detector", "train", "export", "validate", "card")
OF_A_SEED = ("train", "export", "validate")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("steps", nargs="*", choices=[*STEPS, "all"], default="all")
    parser.add_argument("--model", choices=["unet", "mmdit"], action="append", help="both, if not said")
    parser.add_argument("--seed", type=int, default=0, help="of the model's training; all but 0 take the first one's"
                        " VAE, detector and settings, choose the step alone, and get no card")
    parser.add_argument("--work", default=host.ROOT / "out" / "train", type=type(host.ROOT), help="work files")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    options = parser.parse_args()
    possible = OF_A_SEED if options.seed else STEPS
    chosen = [step for step in possible if step in options.steps or "all" in options.steps]
    options.work.mkdir(parents=True, exist_ok=True)
    for step in chosen:
        if step in SHARED:
            print(f"== {step}", flush=True)
            SHARED[step](options.work)
    from models import MODELS

    for name in options.model or list(MODELS):
        model = MODELS[name].again(options.seed)
        for step in chosen:
            if step in OWN:
                print(f"== {step} {model.name}", flush=True)
                OWN[step](model, options.work)
    if options.json:
        print(json.dumps({"steps": list(chosen), "out": str(host.DEMO)}))


def _vae(work):
    import vae

    vae.train(work)


def _detector(work):
    import detector

    detector.train(work)


def _export(model, work):
    import export

    export.write(model, work, {})


def _validate(model, work):
    import export
    import validate

    report = validate.run(model, work)
    export.write(model, work, {**report["chosen"], "sigma": report["sigma"]})


def _card(model, work):
    import card

    card.write(model, work)


SHARED = {"vae": _vae, "detector": _detector}
OWN = {"train": lambda model, work: model.train(work), "export": _export, "validate": _validate, "card": _card}

if __name__ == "__main__":
    main()
