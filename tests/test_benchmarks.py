"""Every benchmark runs in its quick form, and its peers compute what it says they compute."""

import dataclasses
import importlib
import inspect
import re
from functools import partial

import pytest
import torch

pytest.importorskip("diffusers")

from benchmarks import __main__ as command
from benchmarks import afhq_costs, afhq_work, clock, drawing, editing, floor, peers, quality
from minidiff import zoo
from minidiff.evaluation import results
from minidiff.evaluation.documents import MARK, documents
from minidiff.fast import measure
from minidiff.nets.autoencoder import Autoencoder, AutoencoderConfig
from minidiff.nets.unet import UNet, UNetConfig
from minidiff.training.afhq import AFHQ

QUICK = [name for name in command.BENCHMARKS if name not in ("lessons", "tour", "drawing")]


def on_the_cpu(load):
    return lambda name, device: load(name).to("cpu")


@pytest.fixture
def quick(monkeypatch, tmp_path):
    monkeypatch.setattr(measure, "SIZES", (1,))
    monkeypatch.setattr(measure, "known", {})
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_a_benchmark_writes_what_it_measured(quick, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(drawing, "SIZES", (16,))
    monkeypatch.setattr(drawing, "CHUNKS", (2, 8))
    monkeypatch.setattr(drawing, "SECONDS", 0.01)
    monkeypatch.setattr(command, "FOLDER", tmp_path)
    command.main(["drawing"])
    found = results.read("drawing", tmp_path)
    assert [row.name for row in found.rows] == [f"critters/size 16/chunk {chunk}/rate" for chunk in (2, 8)]
    assert all(row.value > 0 for row in found.rows) and found.date and found.seconds > 0
    assert "pictures/s" in capsys.readouterr().out
    page = (tmp_path / "README.md").read_text()
    assert "## drawing" in page and "| 16, 8 |" in page and f"torch {torch.__version__}" in page


@pytest.mark.parametrize("name", QUICK)
def test_the_quick_form_of_every_benchmark(name, quick, tmp_path, tiny_load):
    loads = "load" in inspect.signature(importlib.import_module(f"benchmarks.{name}").measure).parameters
    command.run(name, True, tmp_path, **{"load": on_the_cpu(tiny_load)} if loads else {})
    found = results.read(name, tmp_path)
    names = {row.name for row in found.rows}
    assert found.quick and found.rows and found.tables and found.versions["diffusers"]
    assert all(row.value is not None for row in found.rows)
    for table in found.tables.values():
        cells = {f"{line}/{column}" for line in table.lines for column in table.columns}
        assert cells & names, f"{table.corner}: a table without a figure"
    text = command.report.write(tmp_path).read_text()
    assert f"## {name}" in text and "these figures mean nothing" in text
    known = {without_sizes(row) for row in names} | found.tables.keys()
    assert quoted(name) <= known  # what README and book will quote


def quoted(name):
    """The rows and tables of a benchmark that texts quote, but for the sizes, which are others in a quick run."""
    texts = [path.read_text(encoding="utf-8") for path in documents(command.FOLDER.parents[1])]
    marks = [match for text in texts for match in MARK.finditer(text) if match["kind"] == "benchmarks"]
    return {without_sizes(match["what"]) for match in marks if match["name"] == name}


def without_sizes(row):
    return re.sub(r"\d+", "N", row)


def test_an_unknown_benchmark_is_refused():
    with pytest.raises(SystemExit, match="there is no painting; there are memory, guidance, lessons, tour"):
        command.main(["painting"])


def test_the_page_has_what_other_machines_measured(tmp_path):
    """Results of a GPU, and the costs of AFHQ by device, lie in the same folder."""
    rows = [results.row("a/rate", 2.0, "times", 0)]
    for name in ("sampling-gpu", "afhq_costs-some-gpu"):
        table = results.Table({"a": "A"}, {"rate": "rate"})
        results.write(results.Results(name, "bench", rows, {"rate": table}, date="2026-01-02"), tmp_path)
    page = command.report.write(tmp_path).read_text()
    assert page.count("| A | 2 |") == 2 and page.count("2026-01-02") == 2 and "## afhq_costs-some-gpu" in page


def test_the_fewest_steps_are_found_by_halving():
    asked = []

    def good(count, enough):
        asked.append(count)
        return count >= enough

    for enough in range(1, 12):
        found = quality.fewest(range(2, 11), partial(good, enough=enough))
        assert found == (max(enough, 2) if enough <= 10 else None)
    assert len(asked) <= 11 * 4


def test_a_quick_run_leaves_out_what_has_no_quick_form(capsys, tmp_path):
    command.run("tour", True, tmp_path)
    assert "tour: left out" in capsys.readouterr().out and not list(tmp_path.iterdir())


def test_rounds_take_turns():
    order = []
    functions = {name: lambda name=name: order.append(name) for name in "ab"}
    times = clock.seconds(functions, rounds=3)
    assert "".join(order) == "ab" * 4 and all(len(t) == 3 for t in times.values())
    assert len(clock.seconds(functions, rounds=50, budget=0.0)["a"]) == 2


def test_the_median_has_an_interval_when_there_are_enough_rounds():
    assert clock.median(torch.tensor([3.0, 1.0, 2.0])) == (2.0, None, 3)
    assert clock.median(torch.tensor([6.0, 1.0, 2.0, 3.0, 4.0, 5.0])) == (3.5, (1.0, 6.0), 6)


def test_diffusers_pipeline_draws_our_pictures_from_our_networks(tiny_load):
    model = tiny_load("critters-cat").replace(eta=0.0, steps=5)
    pipe, start = peers.sampler(model), torch.randn(2, *model.latent_shape, generator=torch.Generator().manual_seed(3))
    generator = torch.Generator().manual_seed(3)
    theirs = pipe(batch_size=2, generator=generator, num_inference_steps=5, output_type="np").images
    ours = model.decode(start[:, None]).clamp(-1, 1) / 2 + 0.5
    assert (torch.from_numpy(theirs).permute(0, 3, 1, 2) - ours).abs().max() < 1e-5


def test_diffusers_cyclediffusion_gives_a_picture_back_when_told_the_same(tiny_load):
    model, tokens = editing.told(tiny_load("critters-cat")), editing.words()
    tokens["target"] = tokens["source"]
    pipe, images = peers.editor(model, tokens), torch.rand(1, *model.image_shape)
    said = {"prompt": ["target"], "source_prompt": ["source"], "num_inference_steps": 10, "output_type": "latent"}
    back = pipe(image=images, strength=0.8, guidance_scale=1.0, **said).images
    assert (back - model.to_latents(2 * images - 1)).abs().max() < 1e-3


def test_rivals_are_as_large_as_ours():
    model = zoo.load("critters-cat")
    size, (channels, side) = peers.parameters(model.denoiser.net), model.latent_shape[:2]
    rival = dict(peers.rivals(size, channels, side))["diffusers"]
    assert abs(peers.parameters(rival.net) / size - 1) < 0.1
    assert (
        abs(peers.flops(peers.Answer(rival.net), channels, side) / peers.flops(model.denoiser.net, channels, side) - 1)
        < 0.2
    )
    loss = rival.loss(torch.randn(2, channels, side, side), torch.randn(2, channels, side, side))
    assert loss.isfinite() and loss.requires_grad


def test_the_work_of_a_convolution_is_counted():
    net = peers.Answer(torch.nn.Conv2d(2, 3, 3, padding=1))
    net.forward = lambda x, t: net.net(x)
    assert peers.flops(net, 2, 4) == 2 * 2 * 3 * 9 * 16
    assert peers.closest(lambda width: width**2, 1000) == 32


def test_the_costs_of_afhq_are_measured_and_tabled(tmp_path):
    config = UNetConfig(in_channels=4, channels=(32,), attention=(True,), time=16)
    recipe = dataclasses.replace(AFHQ[0], config=config, steps=1_000, batch=8)
    autoencoder = Autoencoder(AutoencoderConfig(latent_channels=4, encoder=(8, 16), decoder=(8, 8, 16), depth=1))
    rows = afhq_costs.measure(recipe, autoencoder, batch=2, steps=2, cpu=True, size=64)
    value = {row.quantity: row.value for row in rows}
    assert value.keys() == afhq_costs.COLUMNS.keys() and all(each > 0 for each in value.values())
    encoding = 2 * afhq_costs.PHOTOGRAPHS / value["encode"]
    assert value["train"] == pytest.approx((4_000 * value["step"] + encoding) / 3600, rel=1e-3)  # four times the steps

    assert "Nothing has been measured" in afhq_costs.table(tmp_path)
    for device in ("GPU A", "GPU B"):
        name = f"afhq_costs-{device[-1].lower()}"
        results.write(results.Results(name, "bench", rows, settings={"device": device}), tmp_path)
    page = "Costs:\n<!-- benchmarks: afhq_costs -->\nold\n<!-- end -->\nafter"
    lines = afhq_costs.filled(page, tmp_path).splitlines()
    assert lines[3].startswith("| on | s a step | GiB | h to train") and lines[-1] == "after" and "old" not in lines
    assert [line.split(" |")[0] for line in lines[5:7]] == [f"| GPU {x}, batch 2, float32" for x in "AB"]
    with pytest.raises(ValueError, match="page: expected <!-- benchmarks: afhq_costs -->"):
        afhq_costs.filled("no marks", tmp_path)


def test_the_work_of_a_step_is_counted_without_doing_it():
    config = UNetConfig(in_channels=4, channels=(16, 32), attention=(False, True), time=16)
    network = UNet(config)
    with torch.device("meta"):
        shapes = UNet(config)
    counted = afhq_work.counted(afhq_work.learning(shapes, (2, 4, 16, 16)))
    assert counted.moved > 2 * counted.peak > 0
    forward = peers.flops(network, 4, 16)
    assert 2.5 < counted.operations / (2 * forward) < 3  # backward is twice forward, but for the first layer


def test_the_rate_of_sampling_counts_every_call(tiny_load, quick, monkeypatch):
    monkeypatch.setattr(clock, "seconds", lambda functions, budget: {"fast": torch.tensor([2.0])})
    model = tiny_load("critters-cat").replace(steps=5, eta=0.0)
    assert floor.sampled(model, batch=3, work=4.0, budget=1.0).value == 3 * 5 * 4.0 / 2


def test_seconds_by_published_rates():
    work, gpu = afhq_work.Work(3 * 10**12, 10**9, 0), afhq_work.Gpu(rate=2, bandwidth=4, memory=8)
    assert work.seconds(gpu, 1.0) == 1.5 + 0.25 and work.seconds(gpu, 0.5) == 3.5


def test_the_work_that_is_quoted_is_that_of_the_recipe():
    with torch.device("meta"):
        network = UNet(AFHQ[0].config)
    work = afhq_work.counted(afhq_work.learning(network, (4, 4, 32, 32)))
    found = results.read("afhq_work", command.FOLDER)
    assert found["step/4/operations"].value == pytest.approx(work.operations / 1e9, rel=1e-3)
    assert found["step/4/moved"].value == pytest.approx(work.moved / 1e9, rel=0.1)  # torch may fuse more one day


def test_the_page_of_afhq_has_the_costs_that_were_measured():
    page = afhq_costs.PAGE.read_text(encoding="utf-8")
    assert afhq_costs.filled(page) == page, "python -m benchmarks.afhq_costs fills it in"
