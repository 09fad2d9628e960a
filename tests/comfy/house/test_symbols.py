"""Every name of ComfyUI's that the pack uses is there; where one is lost, it says which, and where it is used."""

from lab.tools import symbols


def test_the_comfyui_at_hand_has_them(comfy):
    uses = symbols.used()
    assert {"comfy.samplers.calc_cond_batch", "comfy.patcher_extension.WrappersMP.SAMPLER_SAMPLE"} <= uses.keys()
    assert len(uses) > 100
    lacking = symbols.missing(uses)
    assert not lacking, "\n".join(lacking)


def test_what_is_lacking_is_named(comfy):
    gone = {
        "comfy.samplers.no_such_function": symbols.Use(["gsn/a.py:1"]),
        "comfy.model_management.get_free_memory": symbols.Use(["gsn/b.py:2"], keywords={"no_such_parameter"}),
        "folder_paths.get_folder_paths": symbols.Use(["gsn/c.py:3"], keys={"no_such_folder"}),
    }
    said = "\n".join(symbols.missing(gone))
    for words in ("no_such_function is not there", "takes no 'no_such_parameter'", "no folder 'no_such_folder'"):
        assert words in said
    assert all(place in said for place in ("gsn/a.py:1", "gsn/b.py:2", "gsn/c.py:3"))
