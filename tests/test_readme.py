"""The README's examples work, and CI runs them."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_example_runs() -> None:
    # tests/experiments/test_trained.py tests the other example, of a trained run.
    example, _ = blocks("python")
    names: dict[str, object] = {}
    exec(example, names)
    assert getattr(names["log_probs"], "shape", None) == (100, 10)
    assert names["gradients"].keys() == {"hidden", "out"}  # type: ignore[attr-defined]


def test_quick_start_is_two_lines_and_ci_runs_the_second() -> None:
    main_job, tests = (block.strip() for block in blocks("sh")[:2])
    assert "\n" not in main_job + tests
    assert main_job.endswith("-m experiments.mnist --model=dropmax")
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert tests.rpartition("/")[2] in script
    for file in re.findall(r"-r (\S+)", tests):
        assert f"-r {file}" in script


def test_files_it_links_to_exist() -> None:
    for link in re.findall(r"\]\((?!https?:)([^)]+)\)", README):
        file, _, section = link.partition("#")
        file = file or "README.md"
        assert (ROOT / file).exists(), link
        if section:
            headings = re.findall(r"^#+ (.*)", (ROOT / file).read_text(encoding="utf-8"), re.M)
            assert section in [heading.lower().replace(" ", "-") for heading in headings], link
