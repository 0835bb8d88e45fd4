"""The demo: reading images, finding lines of text, decoding, and the whole job without a network."""

import struct
import zlib

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from click.testing import CliRunner

from bolt.bench import packages
from bolt.demo import command as demo
from bolt.demo import jobs, outcome, page, png
from bolt.errors import ModelError
from bolt.timing import Samples


def nearest(*candidates):
    """Of left, up and corner the one nearest to left + up - corner; the earlier one when two are."""
    a, b, c = stacked = np.array(candidates)
    return np.choose(np.abs(stacked - (a + b - c)).argmin(0), stacked)


def png_bytes(pixels, filters):
    """PNG data of uint8 (height, width, channels), row y stored with filter filters[y % len]."""
    height, width, channels = pixels.shape
    flat = pixels.reshape(height, -1).astype(int)
    rows = []
    for y in range(height):
        kind, up = filters[y % len(filters)], flat[y - 1] if y else np.zeros_like(flat[0])
        left = np.concatenate([np.zeros(channels, int), flat[y][:-channels]])
        corner = np.concatenate([np.zeros(channels, int), up[:-channels]])
        guess = [0, left, up, (left + up) // 2, nearest(left, up, corner)][kind]
        rows.append(bytes([kind]) + ((flat[y] - guess) & 255).astype(np.uint8).tobytes())
    colour = {1: 0, 3: 2, 4: 6}[channels]
    header = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(b"".join(rows))), (b"IEND", b""))
    body = b"".join(
        struct.pack(">I", len(d)) + kind + d + struct.pack(">I", zlib.crc32(kind + d)) for kind, d in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("filters", [[0], [1], [2], [3], [4], [0, 1, 2, 3, 4]])
def test_every_filter_of_a_png_is_undone(channels, filters):
    pixels = np.random.default_rng(3).integers(0, 256, (7, 5, channels), np.uint8)
    assert np.array_equal(png.decode(png_bytes(pixels, filters)), pixels)


def test_colour_becomes_gray_by_luma(tmp_path):
    pixels = np.zeros((1, 2, 3), np.uint8)
    pixels[0, 1] = (0, 255, 0)
    path = tmp_path / "x.png"
    path.write_bytes(png_bytes(pixels, [0]))
    assert png.read_gray(path) == pytest.approx(np.array([[0, 149.685]]))


SIXTEEN_BITS = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sIIBBBBBI", 13, b"IHDR", 1, 1, 16, 0, 0, 0, 0, 0)


@pytest.mark.parametrize("data", [b"GIF89a", SIXTEEN_BITS])
def test_other_images_are_refused(data):
    with pytest.raises(ModelError, match="PNG"):
        png.decode(data)


def drawn_page(tops, height=14, slope=0.0):
    """A gray page with a block of strokes per line, on a ground whose light falls off."""
    image = np.full((220, 320), 220.0) - np.linspace(0, 60, 320)
    for top in tops:
        for x in range(30, 290, 6):
            y = top + round((x - 160) * slope)
            image[y : y + height, x : x + 3] -= 90
    return image


def test_lines_of_a_page_are_found_top_to_bottom():
    lines = page.text_lines(drawn_page([20, 60, 100, 150]))
    assert len(lines) == 4
    assert all(14 <= line.shape[0] <= 24 and 255 <= line.shape[1] <= 300 for line in lines)


def test_a_tilted_page_is_straightened():
    lines = page.text_lines(drawn_page([30, 55, 80, 105], slope=0.04))
    assert len(lines) == 4
    assert all(line.shape[0] <= 24 for line in lines)


def test_lines_that_touch_are_parted():
    image = drawn_page([20, 60, 100, 150])
    image[164:170, 40:60] -= 90
    image[170:184] = drawn_page([170])[170:184]
    assert len(page.text_lines(image)) == 5


def test_an_empty_page_has_no_lines():
    assert page.text_lines(np.full((80, 90), 200.0)) == []


def test_a_line_becomes_the_recognizers_input():
    x = page.to_input(np.full((12, 40), 255.0))
    assert x.shape == (1, 3, 48, 160) and x.dtype == np.float32
    assert x == pytest.approx(1.0)


def test_resize_keeps_ramps_and_constants():
    ramp = np.tile(np.arange(8.0), (4, 1))
    twice = page.resize(ramp, 8, 16)
    assert twice.shape == (8, 16)
    assert np.diff(twice[0, 1:-1]) == pytest.approx(0.5)
    assert page.resize(np.full((5, 3), 7.0), 11, 2) == pytest.approx(7.0)


def test_ctc_drops_blanks_and_repeats():
    letters = page.alphabet("a\nb\nc", 5)
    assert letters == ["", "a", "b", "c", " "]
    best = [0, 1, 1, 0, 1, 2, 2, 4, 3, 0]
    assert page.decode(np.eye(5)[best], letters) == "aab c"


def test_the_alphabet_always_covers_the_models_classes():
    assert len(page.alphabet("a\nb", 9)) == 9
    assert len(page.alphabet("a\nb\nc\nd", 3)) == 3


def test_the_generated_model_is_valid_and_always_the_same():
    model = jobs.generated_model()
    onnx.checker.check_model(model, full_check=True)
    assert model.SerializeToString(deterministic=True) == jobs.generated_model().SerializeToString(
        deterministic=True
    )


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """One cache for all runs: building the execution provider takes seconds."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def run_demo(cache, monkeypatch):
    monkeypatch.setenv("BOLT_CACHE_DIR", str(cache))
    protocol = outcome.Protocol(rounds=1, burst_s=0.001, warm_s=0.0, least_rounds=1)
    monkeypatch.setattr(outcome, "_PROTOCOL", protocol)
    fixed = ["--budget", "0", "--threads", "1"]
    return lambda *arguments: CliRunner().invoke(demo.main, [*fixed, *arguments])


def test_without_a_network_a_generated_model_is_run(run_demo, monkeypatch):
    def fail(*_, **__):
        raise packages.PackageError("no network. Check it")

    monkeypatch.setattr(jobs, "fetch", fail)
    done = run_demo()
    assert done.exit_code == 0, done.output
    assert "Going on with a generated model" in done.output
    assert "equal; max error" in done.output
    assert "ONNX Runtime" in done.output and "x (" in done.output


def test_your_own_model_is_run_on_random_inputs(run_demo, tmp_path):
    path = tmp_path / "mine.onnx"
    onnx.save(jobs.generated_model(), path)
    done = run_demo("--model", str(path), "--output", str(tmp_path / "mine.bolt"))
    assert done.exit_code == 0, done.output
    assert str(tmp_path / "mine.bolt") in done.output
    assert (tmp_path / "mine.bolt" / "model.onnx").exists()


def test_a_missing_model_is_an_error_and_not_a_traceback(run_demo, tmp_path):
    done = run_demo("--model", str(tmp_path / "none.onnx"))
    assert done.exit_code not in (0, 1), done.output


def made(*, bolt="a", failures=()):
    samples = Samples(ms={"ort": [[2.0]], "bolt": [[1.0]]})
    errors = {"ort": 0.0, "bolt": 0.0}
    answers = {"ort": ("a",), "bolt": (bolt,)}
    return outcome.Outcome(answers=answers, failures=failures, errors=errors, samples=samples)


def test_results_that_differ_are_told():
    assert made().agree
    assert not made(bolt="b").agree
    assert not made(failures=("output 'y' is off",)).agree
    assert "differs" in str(outcome._answer_rows(made(bolt="b")))


def test_the_check_notices_a_wrong_output(tmp_path):
    job = jobs.generated_job(tmp_path)
    session = ort.InferenceSession(job.model)
    right, wrong = ([session.run(None, dict(feed)) for feed in job.feeds] for _ in range(2))
    wrong[0][0][0, 0] += 0.5 * np.abs(wrong[0][0]).max()
    checked = outcome._checked(job, {"ort": right, "bolt": wrong})
    assert checked["ort"].failures == () and checked["ort"].error < 1e-4
    assert len(checked["bolt"].failures) == 1 and checked["bolt"].error > 0.1


@pytest.mark.network
def test_the_page_is_read(run_demo):
    done = run_demo()
    assert done.exit_code == 0, done.output
    assert done.output.count("Let us first determine markers of the coins and the") == 2
