"""The package asks for what the project is tested with."""

import re
import tomllib
from pathlib import Path

import dropmax_jax

ROOT = Path(__file__).parents[1]


def bounds(file: str) -> set[str]:
    """The packages that a file of requirements asks for, such as `flax>=0.11,<1`."""
    lines = (ROOT / file).read_text(encoding="utf-8").splitlines()
    return {line.partition("#")[0].strip() for line in lines}


def name_of(package: str) -> str:
    return re.split("[<>=]", package)[0]


def test_the_package_and_the_requirements_have_the_same_bounds() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    required, for_tests = bounds("requirements.txt"), bounds("requirements-dev.txt")
    extras = project["optional-dependencies"]
    assert {*project["dependencies"], *extras["flax"]} <= required
    assert {*extras["equinox"], *extras["haiku"]} <= for_tests


def test_the_package_needs_jax_and_optax_alone_and_each_framework_is_an_extra() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert [name_of(package) for package in project["dependencies"]] == ["jax", "optax"]
    extras = project["optional-dependencies"]
    names = {extra: [name_of(package) for package in extras[extra]] for extra in extras}
    assert names == {"flax": ["flax"], "equinox": ["equinox"], "haiku": ["dm-haiku"]}


def test_the_version_to_cite_is_the_packages() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {project['version']}\n" in citation
    assert dropmax_jax.__version__ == project["version"]


def test_the_source_distribution_has_every_folder() -> None:
    manifest = (ROOT / "MANIFEST.in").read_text(encoding="utf-8").splitlines()
    folders = {path.name for path in ROOT.iterdir() if any(path.glob("**/*.py"))}
    folders |= {"docs", "notebooks", ".ci"}
    hidden = {name for name in folders if name.startswith(".") and name != ".ci"}
    others = {"dropmax_jax", "results", "build", "dist"}  # The package, and what is not tracked.
    assert {f"graft {name}" for name in folders - hidden - others} <= {*manifest}
