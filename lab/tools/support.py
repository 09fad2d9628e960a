"""docs/support.md: which model families work, every cell from a test that passed just now.

`dev.py support` runs the tests that prove something of a family and writes the tables from their report; a cell
is never written by hand.
"""

import os
import re
import runpy
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as xml
from dataclasses import dataclass
from pathlib import Path

from .checks import in_parallel
from .environment import ROOT, venv_script

MODELS = runpy.run_path(str(ROOT / "tests" / "comfy" / "zoo_names.py"))["NAMES"]
# The toy with a real text encoder has a name of its own.
ALSO = {"sd3_clip": ("sd3",)}


@dataclass(frozen=True)
class Proof:
    """A test that proves something of a model when it passed with all of these ids; none: it has no parameters.

    refuses: what it proves is that the model is refused with this.
    """

    file: str
    test: str
    ids: tuple[str, ...] = ("{model}",)
    refuses: bool = False

    def names(self, model):
        return [f"{self.test}[{one.format(model=model)}]" for one in self.ids] or [self.test]


_PROMPTS = ("-plain", "-long", "-in the template too", "-emphasis", "-upper case")


def _reading(*encoders):
    """The prompts of these text encoders are read; of a row's own name where none is given."""
    ids = tuple(f"{name}{prompt}" for name in encoders or ("{model}",) for prompt in _PROMPTS)
    return Proof("text/test_language_models", "test_each_subject_owns_its_columns", ids)


def _word_of(name):
    return Proof("nodes/test_subjects_node", "test_a_subjects_columns_carry_its_word", (name,))


COLUMNS = {
    "maps, gradient": Proof(
        "families/test_families", "test_maps_and_gradient", ("{model}-1", "{model}-2", "{model}-3")
    ),
    "self-attention": Proof("attention/test_self_attention", "test_self_rows", ("{model}-fast", "{model}-low")),
    "fine maps": Proof("attention/test_self_attention", "test_fine_maps", ("{model}-fast", "{model}-low")),
    "low memory": Proof("families/test_families", "test_recomputed_blocks_give_the_same_gradient"),
    "loss falls": Proof("families/test_families", "test_loss_falls_over_ten_iterations"),
    "off is off": Proof("families/test_families", "test_off_is_equal"),
    "bf16": Proof("gradient/test_precision", "test_gradient_in_half_precision", ("{model}-bf16",)),
    "fp16": Proof("gradient/test_precision", "test_gradient_in_half_precision", ("{model}-fp16",)),
    "fp16, 50 iterations": Proof("gradient/test_precision", "test_fifty_iterations_in_fp16_stay_finite"),
    "fp8 weights": Proof("gradient/test_precision", "test_fp8_weights", ("{model}-fp8",)),
    "offload": Proof("gradient/test_offload", "test_lent_weights_give_the_exact_gradient"),
    "subjects": _reading(),
}
# Models of one text encoder are tested once: row -> what proves its "subjects".
_T5 = Proof("nodes/test_subjects_node", "test_t5_streams", ())
_SD1, _SD2, _SDXL, _SD3 = (_word_of(name) for name in ("sd15", "sd2", "sdxl", "sd3"))
SUBJECTS = {
    **dict.fromkeys(("sd15", "sd15_inpaint", "sd15_edit", "sd_xs"), _SD1),
    **dict.fromkeys(("sd2", "sd21_v", "sd2_inpaint", "sd21_unclip_l", "sd21_unclip_h", "sd_xs_09"), _SD2),
    **dict.fromkeys(("sdxl", "sdxl_zero_snr_v", "sdxl_inpaint", "sdxl_edit", "cosxl", "playground"), _SDXL),
    **dict.fromkeys(("ssd_1b", "segmind_vega", "koala_700m", "koala_1b"), _SDXL),
    "sd3_clip": _SD3,
    "sd3_both": _T5,
    "sd35_medium": _T5,
    "sd35_large": _T5,
    "flux_fill": _reading("flux_dev"),
    "flux_schnell": _reading("flux_dev"),
    "chroma_radiance": _reading("chroma"),
    "pixart_alpha": _reading("chroma"),
    "pixart_sigma": _reading("chroma"),
    "flux2": _reading("flux2", "flux2_klein", "flux2_klein_8b"),
    "lumina2": _reading("lumina2", "lumina2_gemma3"),
    "ideogram4": _reading("ideogram4", "ideogram4_vision"),
    "anima": Proof("text/test_language_models", "test_anima_has_a_column_for_each_t5_token", ()),
    "hunyuan_dit1": _reading("hunyuan_dit"),
}


def _quantised(kind):
    test = "test_quantised_weights_give_the_gradient_of_their_rounded_values"
    return Proof("gradient/test_precision", test, (f"{{model}}-{kind}",))


FORMATS = {
    "fp8 (e4m3)": COLUMNS["fp8 weights"],
    "fp8 (e5m2)": Proof("gradient/test_precision", "test_fp8_weights", ("{model}-fp8_e5m2",)),
    "fp8 scaled (e4m3)": _quantised("fp8_scaled"),
    "fp8 scaled (e5m2)": _quantised("fp8_scaled_e5m2"),
    "mxfp8": _quantised("mxfp8"),
    "nvfp4": _quantised("nvfp4"),
    "nvfp4 with factors of the input": _quantised("nvfp4_smoothed"),
    "int8": _quantised("int8"),
    "int8, rotated": _quantised("int8_rotated"),
    "int4, rotated": _quantised("int4_rotated"),
}
# What is used together with the pack. Ids are KIND-MODEL, and each kind is a row of its own name.
TOGETHER = (
    Proof("together/test_conditioning", "test_the_refinement_works_and_off_is_exact", ("{row}-{model}",)),
    Proof("together/test_ways", "test_a_way_to_condition", ("{row}-{model}",)),
    Proof("together/test_patches", "test_a_patch_before_and_after_ours", ("{row}-{model}",)),
)


def _more_rows(kind):
    test = "test_rows_that_another_pack_adds_are_refused"
    return Proof(
        "together/test_attention_of_others", test, (f"{kind}-{{model}}-1", f"{kind}-{{model}}-2"), refuses=True
    )


FEATURES = {
    "a LoRA on a model loaded in part": Proof(
        "together/test_conditioning", "test_a_lora_that_is_applied_to_weights_as_they_are_fetched"
    ),
    "a bypass LoRA on quantised weights": Proof(
        "together/test_patches", "test_a_bypass_lora_on_a_quantised_model", ("{model}-fp8_scaled", "{model}-int8")
    ),
    "attention chosen for all of ComfyUI": Proof(
        "together/test_attention_of_others", "test_the_chosen_attention_is_for_ordinary_passes", ("no_patch-{model}",)
    ),
    "attention of another pack": Proof(
        "together/test_attention_of_others", "test_another_packs_attention_is_for_ordinary_passes"
    ),
    "`TorchCompileModel`": Proof("together/test_patches", "test_a_compiled_model"),
    "`FluxKVCache`": Proof(
        "together/test_attention_of_others", "test_flux_kv_cache_with_a_reference_picture", ("{model}-0", "{model}-1")
    ),
    "a second copy of every row, from another pack": _more_rows("twice_the_rows"),
    "a negative prompt's row of text, from another pack": _more_rows("negative_within"),
    "tokens before the text, from another pack": Proof(
        "together/test_attention_of_others", "test_tokens_put_before_the_text_are_refused", refuses=True
    ),
}
REFUSED = Proof("families/test_refused_families", "test_each_is_refused_by_name_with_its_reason", ())
PROOFS = [*COLUMNS.values(), *SUBJECTS.values(), *FORMATS.values(), *TOGETHER, *FEATURES.values(), REFUSED]
NUMBERS = {proof: number for number, proof in enumerate(dict.fromkeys(PROOFS), 1)}

HEAD = """# Which models work

Written by `python dev.py support` from tests that passed in the same run; nothing is claimed outside these tables.
Every model is a tiny instance of ComfyUI's own classes with random weights, sampled by ComfyUI's own executor (the
names are the toys' in `tests/comfy/toy_models/`). **No real weights were used**: the tables say that maps and
gradients are right, not that pictures get better.

A number in brackets is the test that proves the cell, see the end; a percentage is the gradient's relative error
against float32, of weights that were not rounded. **A dash means not tested.**

## Families

"""
ROUNDED = """
## Weights in fp8 and in ComfyUI's quantised formats

The percentage is what rounding the weights costs, of these toys. Each test also compares the gradient with that of the
rounded weights in float32: equal to 1e-5, but for int8 (5 %) and int4 (50 %), whose layers round their inputs as well.
On a processor ComfyUI unpacks the weights of the other formats before it multiplies; the kernels of graphics cards were
not run. Models that are not in this table: not tested with these, but for fp8 in the table of families.

"""
WITH = """
## Together with other nodes

Nodes of ComfyUI and ways to condition: with lr 0 and with no iterations the picture is the one without this pack, and
the loss falls otherwise. Names in capitals are ComfyUI's nodes; the others say what the test wires, or stand for other
packs' patches (`tests/comfy/toy_models/chain_nodes.py`). Models that are not in this table: not tested with these.

"""
NEVER = """
## Refused

Each of these kinds of model ends in an error before sampling that gives the reason, and so does one of an unknown kind.

"""
TESTS = """
## The tests

MODEL and ROW stand for the cell's own.

| | in `tests/comfy/` | test |
|---|---|---|
"""


def report(path):
    """Test name -> its properties where it passed, None where it did not."""
    found = {}
    for case in xml.parse(path).iter("testcase"):
        passed = not any(case.find(bad) is not None for bad in ("failure", "error", "skipped"))
        found[case.get("name")] = {p.get("name"): p.get("value") for p in case.iter("property")} if passed else None
    return found


def page(found):
    """The whole file in Markdown."""
    families = {model: {column: _in_family(found, model, column) for column in COLUMNS} for model in MODELS}
    formats = {row: {m: cell(found, proof, m) for m in MODELS} for row, proof in FORMATS.items()}
    tested = [model for model in MODELS if any(cells[model] != "-" for cells in list(formats.values())[1:])]
    features = together(found) | {row: {m: cell(found, proof, m) for m in MODELS} for row, proof in FEATURES.items()}
    used = [model for model in MODELS if any(cells[model] != "-" for cells in features.values())]
    return "".join(
        (
            HEAD,
            _table("model", COLUMNS, families),
            ROUNDED,
            _table("weights", tested, formats),
            WITH,
            _table("with", used, features),
            NEVER,
            _refused(found),
            TESTS,
            *(f"| [{number}] | `{proof.file}.py` | {_written(proof)} |\n" for proof, number in NUMBERS.items()),
        )
    )


def cell(found, proof, model):
    """What the report says of it: the test's number, after the error that it measured; a dash if it did not pass."""
    for spelled in (model, *ALSO.get(model, ())):
        results = [found.get(name) for name in proof.names(spelled)]
        if all(result is not None for result in results):
            error = results[0].get("relative_error")
            parts = ["refused"] if proof.refuses else [] if error is None else [f"{100 * float(error):.1f} %"]
            return " ".join([*parts, f"[{NUMBERS[proof]}]"])
    return "-"


def together(found):
    """Row -> model -> cell, for the tests whose ids name what they are about."""
    spelled = {name: model for model in MODELS for name in (model, *ALSO.get(model, ()))}
    names = "|".join(sorted(spelled, key=len, reverse=True))
    rows = {}
    for proof in TOGETHER:
        passed = {}
        for name, result in found.items():
            # pytest numbers what has the same id
            parts = re.fullmatch(rf"{proof.test}\[(.+)-({names})_?\d*\]", name)
            if parts:
                key = (parts[1], spelled[parts[2]])
                passed[key] = passed.get(key, True) and result is not None
        for row, model in sorted(passed, key=lambda key: key[0].casefold()):
            cells = rows.setdefault(f"`{row}`", dict.fromkeys(MODELS, "-"))
            if passed[row, model]:
                cells[model] = f"[{NUMBERS[proof]}]"
    return rows


def _in_family(found, model, column):
    known = SUBJECTS if column == "subjects" else {}
    return cell(found, known.get(model, COLUMNS[column]), model)


def _table(corner, columns, rows):
    lines = [f"| {corner} | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    lines += [f"| {row} | " + " | ".join(cells[column] for column in columns) + " |" for row, cells in rows.items()]
    return "\n".join(lines) + "\n"


def _refused(found):
    """Kinds of one reason share a line."""
    kinds = {}
    for kind, reason in sorted((found.get(REFUSED.test) or {}).items()):
        kinds.setdefault(reason, []).append(kind)
    number = NUMBERS[REFUSED]
    lines = ["| ComfyUI's class | refused, because | |", "|---|---|---|"]
    lines += [f"| {', '.join(kinds[reason])} | {reason} | [{number}] |" for reason in sorted(kinds)]
    return "\n".join(lines) + "\n"


def _written(proof):
    """Its name and ids."""
    ids = ", ".join(f"`[{one.format(model='MODEL', row='ROW')}]`" for one in proof.ids)
    return f"`{proof.test}` {ids}".rstrip()


def main():
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "report.xml"
        parallel, env = in_parallel("comfy", {k: v for k, v in os.environ.items() if k != "PYTHONPATH"})
        files = sorted({f"tests/comfy/{proof.file}.py" for proof in PROOFS})
        only = " or ".join(sorted({proof.test for proof in PROOFS}))
        pytest = str(venv_script("pytest"))  # not as a module, which puts this folder on the path: see checks.py
        command = [pytest, "-q", f"--junitxml={path}", *parallel, *files, "-k", only]
        code = subprocess.run(command, cwd=ROOT, env=env).returncode
        (ROOT / "docs" / "support.md").write_text(page(report(path)))
    return code


if __name__ == "__main__":
    sys.exit(main())
