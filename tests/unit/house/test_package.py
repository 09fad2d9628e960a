"""What an artist downloads and keeps. A megabyte (MB) is 10^6 bytes."""

import subprocess
import zipfile

import pytest

from lab.tools.environment import ROOT
from lab.tools.package import packaged

FETCHED, LAID_OUT, PACKAGE = 46, 52, 45  # MB, at most
pytestmark = pytest.mark.skipif(not (ROOT / ".git").exists(), reason="measured of a git repository")


@pytest.fixture
def say(record_property):
    """The sizes are to be seen where nothing fails, too: tests/conftest.py prints them in the end."""

    def said(what, size, most):
        record_property("measured", f"{what} {size / 1e6:.1f} MB, at most {most}")
        assert size < most * 1e6, f"{what}: {size} bytes are more than {most} MB; what is large and not for artists?"

    return said


def test_a_shallow_clone(tmp_path, say):
    """Of HEAD, as git sends it; uncommitted work counts when it is committed."""
    command = ["git", "clone", "-q", "--depth", "1", "--no-local", ROOT.as_uri(), tmp_path / "clone"]
    subprocess.run(command, check=True)
    clone = tmp_path / "clone"
    assert (clone / "__init__.py").is_file() and (clone / ".git" / "shallow").is_file()
    laid_out = [path for path in clone.rglob("*") if path.is_file() and ".git" not in path.relative_to(clone).parts]
    say("a shallow clone fetches", sum(path.stat().st_size for path in clone.glob(".git/objects/pack/*.pack")), FETCHED)
    say("a shallow clone lays out", sum(path.stat().st_size for path in laid_out), LAID_OUT)


def test_the_registrys_package(tmp_path, say):
    """Zipped as the registry's own tool does it."""
    with zipfile.ZipFile(tmp_path / "node.zip", "w", zipfile.ZIP_DEFLATED) as package:
        for path in packaged():
            package.write(ROOT / path, path)
    say("the registry's package has", (tmp_path / "node.zip").stat().st_size, PACKAGE)


def test_the_package_has_what_runs_and_nothing_else():
    paths = packaged()
    rooms = {path.parts[0] for path in paths if len(path.parts) > 1}
    assert rooms == {"demo", "detector", "docs", "gsn", "nodes", "web", "workflows"}
    beside = {path.name for path in paths if len(path.parts) == 1}
    assert {"__init__.py", "pyproject.toml", "LICENSE", "README.md"} <= beside and "dev.py" not in beside
