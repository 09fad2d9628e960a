"""What a call between two of the sampler's own takes back: what its patches remember, and nothing of other people's."""

import threading
from types import SimpleNamespace

import pytest
import torch

REWINDS = 2000


class Patch:
    """State of its own, and a server that lives on beside it."""

    def __init__(self, server):
        self.calls, self.kept, self.server = 0, {"first": 1}, server


class WithLock:
    def __init__(self):
        self.lock, self.kept = threading.Lock(), {}


@pytest.fixture
def server():
    """An object that another package made."""
    made = type("Server", (), {"__module__": "another_package.server"})()
    made.messages, made.sockets = {}, []
    return made


def test_a_patch_forgets_the_call(comfy, server):
    patch, shared = Patch(server), WithLock()
    state = SimpleNamespace(cache=[1, 2])

    def function():
        return patch, shared, state

    with _unnoticed(comfy, [function, patch]) as rewind:
        patch.calls, state.cache = 5, [3]
        patch.kept["second"] = 2
        del patch.kept["first"]
        shared.kept["queued"] = server.messages["sent"] = True
        rewind()
        assert patch.calls == 0 and patch.kept == {"first": 1} and state.cache == [1, 2]
        patch.kept["first"] = 3
    assert patch.kept == {"first": 1}
    assert shared.kept == {"queued": True} and server.messages == {"sent": True}


def test_other_threads_lose_nothing_and_always_find_what_is_there(comfy, server):
    """One sends messages by the server that a patch holds, and looks at the patch's own entries."""
    patch, sent, failed, stop = Patch(server), 0, [], threading.Event()

    def elsewhere():
        nonlocal sent
        while not stop.is_set():
            server.messages[sent] = True
            server.sockets.append(sent)
            sent += 1
            if "first" not in patch.kept:
                failed.append(sent)

    thread = threading.Thread(target=elsewhere)
    with _unnoticed(comfy, [patch]) as rewind:
        thread.start()
        for n in range(REWINDS):
            patch.kept["call"] = n
            rewind()
    stop.set()
    thread.join()
    assert sent > 0 and len(server.messages) == len(server.sockets) == sent and not failed


def _unnoticed(comfy, patches):
    options = {"transformer_options": {"patches": {"middle": patches}}}
    model = SimpleNamespace(diffusion_model=torch.nn.Linear(1, 1))
    return comfy.pack("gsn.host.attention.forward").unnoticed(options, model, torch.device("cpu"))
