"""Toy models that are made once in a process and lent to every graph, as a running ComfyUI keeps a loaded file.

Whoever borrows one gets a clone, which shares the weights. After each test ComfyUI's patches are undone as it undoes
them itself, and then the weights, the layers and what hangs on them must be what they were. A test that spoils a
model on purpose builds its own.
"""

import functools
import gc
import zlib

import comfy.model_management
import torch

_MADE: dict[int, tuple] = {}  # by identity of the model: what it is, its patcher, and how it was when it was made
_BORROWED: set[int] = set()
_SEEN_BEFORE: set[int] = set()


_all_loaded = comfy.model_management.loaded_models


def _living_loaded(*args, **kwargs):
    """ComfyUI lists a clone that was collected while its model lives on as None, and a ControlNet then loads that."""
    return [patcher for patcher in _all_loaded(*args, **kwargs) if patcher is not None]


comfy.model_management.loaded_models = _living_loaded


def forget_collected():
    """ComfyUI takes such a clone for a leak, and collects at every load as long as it is listed."""
    listed = comfy.model_management.current_loaded_models
    for one in [one for one in listed if one.is_dead()]:
        one.model_finalizer.detach()
        listed.remove(one)


@functools.cache
def _made(build, arguments):
    patcher = build(*arguments)
    loading = {name: _loading(module) for name, module in patcher.model.named_modules()}
    _MADE[id(patcher.model)] = arguments[0], patcher, _state(patcher.model), loading
    return patcher


def lent(build, *arguments):
    """A clone of the one model that `build` makes of these arguments in this process."""
    patcher = _made(build, arguments)
    _BORROWED.add(id(patcher.model))
    return patcher.clone()


def given_back():
    """Ends the loan of all models and says in what they differ from what was lent; then they are made anew."""
    loaded = {id(one.model.model) for one in comfy.model_management.current_loaded_models if one.model is not None}
    borrowed = (_BORROWED | loaded) & _MADE.keys()  # a session that outlives a test still holds what it once borrowed
    if not borrowed:
        return []
    comfy.model_management.unload_all_models()
    spoilt = []
    for name, patcher, before, loading in (_MADE[one] for one in borrowed):
        _as_before_loading(patcher, loading)
        now = _state(patcher.model)
        differs = [key for key in {**before, **now} if before.get(key) != now.get(key)]
        spoilt += [f"{name}: {key}: {before.get(key)} is now {now.get(key)}" for key in differs]
    _BORROWED.clear()
    if spoilt:
        _made.cache_clear()
        _MADE.clear()
    if not _SEEN_BEFORE.issuperset(borrowed):  # what was made stays: looking through it took longer than many a run
        gc.collect()
        gc.freeze()
        _SEEN_BEFORE.update(borrowed)
    return spoilt


def _as_before_loading(patcher, loading):
    """A clone that was patched may be gone; what it backed up is shared by all clones."""
    patcher.unpatch_model(patcher.offload_device)
    for name, module in patcher.model.named_modules():
        for key in _loading(module).keys() - loading[name].keys():
            delattr(module, key)
        vars(module).update(loading[name])


def _loading(module):
    """What ComfyUI notes on a layer that it loads, casts or compiles, and does not always take away."""
    return {key: value for key, value in vars(module).items() if key.startswith(_NOTES)}


_NOTES = ("comfy_", "prev_comfy_", "_is_torch_compile")


def _state(model):
    """Of the model and every layer what a patch could leave: classes, plain attributes, hooks, the bytes of weights."""
    network = model.diffusion_model
    found = {"": (type(model), type(model.model_sampling), type(model.model_config))}
    for name, module in network.named_modules():
        plain = {key: value for key, value in vars(module).items() if isinstance(value, _PLAIN)}
        hooks = [len(getattr(module, kind)) for kind in ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks")]
        methods = {key for key, value in vars(module).items() if callable(value) and not _its_own(module, key, value)}
        found[f"{name} (layer)"] = (type(module), plain, hooks, methods)
    for name, value in (*network.named_parameters(), *network.named_buffers()):
        found[name] = (value.dtype, value.requires_grad, value.grad is None, _checksum(value))
    return found


_PLAIN = (bool, int, float, str, torch.dtype)


def _its_own(module, key, value):
    """ComfyUI leaves a module's own forward in its dictionary after a bypass LoRA."""
    return getattr(value, "__self__", None) is module and value.__func__ is getattr(type(module), key, None)


def _checksum(tensor):
    return zlib.crc32(tensor.detach().contiguous().view(torch.uint8).numpy()) if tensor.ndim else float(tensor)
