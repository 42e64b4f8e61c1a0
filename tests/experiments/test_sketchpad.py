"""The file that `experiments.sketchpad` writes, without a browser; tests/browser has one."""

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from experiments.cli.errors import UserError
from experiments.data import datasets, glyphs
from experiments.data.datasets import Dataset
from experiments.runtime.files import write_json
from experiments.sketchpad import __main__ as sketchpad
from experiments.sketchpad import html, weights
from experiments.train import run
from experiments.train.config import Config
from tests.experiments.runner import ROOT, environment, files_under, help_at_once, run_here
from tests.experiments.sketchpads import untrained

EVIL = "</script><script>alert(1)</script>"


class Reader(HTMLParser):
    """What a browser makes of a page: its text, its scripts, and the addresses that it names."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.scripts: list[str] = []
        self.text = ""
        self.addresses: list[str] = []
        self._in_script = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._in_script = tag == "script"
        if self._in_script:
            self.scripts.append("")
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        self._in_script = False

    def handle_data(self, data: str) -> None:
        if self._in_script:
            self.scripts[-1] += data
        else:
            self.text += data

    @property
    def model(self) -> dict[str, Any]:
        model: dict[str, Any] = json.loads(self.scripts[0])
        return model


@pytest.fixture(scope="module")
def lenet_run(small_data: Dataset, mnist_folder: Path, tmp_path_factory: Any) -> Path:
    """The folder of a run of LeNet, of two steps; do not change it."""
    folder = Path(tmp_path_factory.mktemp("lenet")) / "run"
    config = Config("dropmax", mnist_path=str(mnist_folder), train_per_class=20, num_epochs=1)
    run.train(datasets.configured(config, small_data), small_data, folder)
    return folder


class TestWeights:
    @given(
        st.lists(st.floats(-1000, 1000, width=32), min_size=6, max_size=6),
        st.floats(2**-20, 1024, width=32),
    )
    @example([1e-44, 1e-45, 0, 0, 0, 0], 1.0)
    def test_int8_is_within_half_a_step_of_each_output(
        self, values: list[float], factor: float
    ) -> None:
        kernel = np.array(values, np.float32).reshape(3, 2) * np.array([1, factor], np.float32)
        integers, scales = weights.quantise(kernel)
        assert integers.dtype == np.int8
        assert np.abs(integers.astype(int)).max() <= 127
        assert (np.abs(kernel - integers * scales) <= 0.501 * scales + 1e-30).all()

    def test_outputs_that_are_zero_stay_zero(self) -> None:
        integers, scales = weights.quantise(np.zeros((3, 2), np.float32))
        assert not (integers * scales).any()

    def test_only_what_predicts_is_packed(self, tmp_path: Path) -> None:
        model = untrained(tmp_path)
        params = jax.tree.map(lambda leaf: leaf[0], model.params)
        packed = weights.pack(params, padding=0)
        assert set(packed) == {"blocks", "dense", "logits", "prior_logits"}


class TestPage:
    def test_is_one_small_file_that_names_no_address(self, tmp_path: Path) -> None:
        page = html.render(untrained(tmp_path / "run"))
        assert len(page.encode()) < 700_000
        assert Reader(page).addresses == ["data:,"]
        assert "default-src 'none'" in page

    def test_text_of_the_run_is_text(self, tmp_path: Path) -> None:
        names = (EVIL, "<b>", "&amp;", "it's", '"')
        model = untrained(tmp_path / "<script>alert(2)", class_names=names, dataset="<i>glyphs")
        reader = Reader(html.render(model))
        assert len(reader.scripts) == 2
        assert reader.model["names"] == list(names)
        assert "Run <script>alert(2):" in " ".join(reader.text.split())
        assert "trained on <i>glyphs" in " ".join(reader.text.split())

    def test_no_script_of_the_page_ends_it_early(self) -> None:
        for file in (ROOT / "experiments" / "sketchpad" / "page").glob("*.js"):
            assert "</script" not in file.read_text(encoding="utf-8")

    @pytest.mark.parametrize(("given", "expected"), [({}, 0.1), ({"temperature": 0.5}, 0.5)])
    def test_masks_have_the_runs_temperature(
        self, given: dict[str, float], expected: float, tmp_path: Path
    ) -> None:
        reader = Reader(html.render(untrained(tmp_path, hyperparameters=given)))
        assert reader.model["temperature"] == expected

    def test_capitals_are_as_large_as_those_of_glyphs(self) -> None:
        """And their boxes lie in the middle, where the page puts those of what is drawn."""
        images = glyphs.draw(("I", "E", "F"))[:60] > 127
        heights = images.any(-1).sum(-1)
        form = html.form_of("glyphs:62").values
        assert abs(heights.mean() - form["capital"]) < 1
        rows = images.any(-1)
        middles = (rows.argmax(-1) + 28 - rows[..., ::-1].argmax(-1)) / 2
        assert abs(middles.mean() - form["side"] / 2) < 0.5


class TestCommand:
    def test_writes_the_page_into_the_runs_folder(
        self, lenet_run: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        before = files_under(lenet_run)
        outcome = run_here(capfd, f"--run={lenet_run}", module=sketchpad)
        assert outcome.code == 0, outcome.stderr
        file = lenet_run / "sketchpad.html"
        size = file.stat().st_size / 1000
        assert outcome.stdout == f"wrote {file}, {size:.0f} kB\n"
        page = file.read_text(encoding="utf-8")
        file.unlink()
        assert files_under(lenet_run) == before
        assert Reader(page).model["names"] == list("0123456789")

    def test_writes_here_if_the_run_is_read_only(self, lenet_run: Path, tmp_path: Path) -> None:
        done = subprocess.run(
            [
                *(sys.executable, "-m", "tests.experiments.read_only_command", str(lenet_run)),
                *("sketchpad.__main__", f"--run={lenet_run}"),
            ],
            cwd=tmp_path,
            env=environment(1),
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "sketchpad.html").exists()
        assert not (lenet_run / "sketchpad.html").exists()

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"network": "resnet18"}, "knows the networks lenet and cnn, and the run's is resnet"),
            ({"dataset": "cifar10", "image_shape": [32, 32, 3]}, "the run's data are cifar10"),
            ({"dataset": "fashion_mnist"}, "the run's data are fashion_mnist"),
            ({"dataset": "languages:9", "image_shape": [48]}, "the run's data are languages:9"),
        ],
    )
    def test_a_run_that_the_page_cannot_hold_is_refused_at_once(
        self,
        changes: dict[str, Any],
        message: str,
        in_tmp_path: Path,
        capfd: pytest.CaptureFixture[str],
    ) -> None:
        # There is no checkpoint.
        write_json(in_tmp_path / "config.json", {**Config().to_json(), **changes})
        before = files_under(in_tmp_path)
        outcome = run_here(capfd, f"--run={in_tmp_path}", module=sketchpad)
        assert outcome.code == 2
        assert message in outcome.stderr
        assert outcome.stderr.count("\n") == 1
        assert files_under(in_tmp_path) == before

    @pytest.mark.parametrize("model", ["softmax", "dropmax_logit", "deterministic_attention"])
    def test_a_method_without_dropmaxs_masks_is_refused(self, model: str, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="train one of dropmax, dropmax_balanced, ") as raised:
            html.check(untrained(tmp_path, model))
        assert f"is {model}, which lacks the masks" in str(raised.value)

    @pytest.mark.parametrize("model", ["dropmax", "dropmax_balanced", "dropmax_prior"])
    def test_a_method_with_them_is_not(self, model: str, tmp_path: Path) -> None:
        html.check(untrained(tmp_path, model))

    def test_weights_that_are_not_finite_are_refused(self, tmp_path: Path) -> None:
        model = untrained(tmp_path)
        broken = model._replace(
            params=jax.tree.map(lambda leaf: leaf.at[0].set(jnp.nan), model.params)
        )
        with pytest.raises(UserError, match="not finite"):
            html.check(broken)

    @pytest.mark.parametrize(
        ("output", "message"),
        [
            ("no/such/page.html", "must be a file in a folder that is there"),
            ("folder.html", "must be a file in a folder that is there"),
            ("page.png", "must end in .html"),
        ],
    )
    def test_an_impossible_output_is_refused_before_anything_is_loaded(
        self, output: str, message: str, in_tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        (in_tmp_path / "folder.html").mkdir()
        outcome = run_here(capfd, "--run=none", f"--output={output}", module=sketchpad)
        assert outcome.code == 2
        assert message in outcome.stderr

    def test_a_folder_without_a_run_is_refused(
        self, tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        outcome = run_here(capfd, f"--run={tmp_path}", module=sketchpad)
        assert (outcome.code, outcome.stderr.count("\n")) == (2, 1)
        assert f"there is no run in {tmp_path}" in outcome.stderr

    def test_help_answers_at_once(self) -> None:
        stdout = help_at_once("experiments.sketchpad")
        assert set(re.findall(r"^  --(\w+):", stdout, re.MULTILINE)) == set(sketchpad.FLAGS.values)
        assert "HTML to write (default: sketchpad.html in --run" in " ".join(stdout.split())
