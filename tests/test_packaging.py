"""The package asks for what the project is tested with."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_package_and_the_requirements_have_the_same_bounds() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    required = {line.partition("#")[0].strip() for line in lines}
    packages = project["dependencies"] + project["optional-dependencies"]["flax"]
    assert len(packages) == 3
    assert set(packages) <= required


def test_the_version_to_cite_is_the_packages() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {project['version']}\n" in citation
