"""The study of the common latent space: on untrained models, on checkpoints of them, and on readings made by hand."""

import pytest
import torch

from minidiff.evaluation import results
from minidiff.evaluation.studies import reproduce
from minidiff.evaluation.studies.common_space import CARRIED, carried, kept, parts_of, shuffled, stages
from minidiff.seeds import normal
from minidiff.training.checkpoint import save
from minidiff.training.loop import STAGE
from minidiff.zoo import UnknownModel

SMALL = {
    "n": 8, "steps": 5, "etas": (0.0, 0.5), "parts_etas": (0.5,), "domains": ("cat", "wild"), "families": ("gan", "flow"),
    "family_eta": 0.5, "statistics": 3,
}  # fmt: skip


@pytest.fixture
def some_runs(tiny_load):
    """Runs of which some were never finished."""

    def load(name, runs):
        if name in ("relatives-flow-cat", "relatives-half"):
            raise UnknownModel(name)
        return tiny_load(name)

    return load


def checkpoint(folder, model, step, scale=1.0):
    weights = {f"average/{name}": scale * value for name, value in model.denoiser.named_parameters()}
    weights |= {f"network/{name}": value + 1 for name, value in model.denoiser.state_dict().items()}
    save(folder / STAGE.format(step), weights, {"step": step})


def test_codes(tiny_load, some_runs, tmp_path):
    for name, steps in {"cat": (10, 20), "dog": (20, 30)}.items():
        for step in steps:
            checkpoint(tmp_path / "runs" / f"relatives-{name}", tiny_load(f"relatives-{name}"), step)
    settings = SMALL | {"load": tiny_load, "from_run": some_runs, "runs": str(tmp_path / "runs")}
    found = results.read("codes", reproduce("codes", quick=True, out=tmp_path / "out", **settings).parent)
    for eta in ("0", "0.5"):
        assert found[f"eta {eta}/cat-wild/background"].n == 8
        assert found[f"eta {eta}/all pairs/coat"].value == found[f"eta {eta}/cat-wild/coat"].value
    last = found["kinship/cat and dog/coat"].value  # the stage has the weights of the finished models
    assert found["training/20/all pairs/coat"].value == pytest.approx(last, abs=1e-4)
    assert not any("training/10/" in row.name or "training/30/" in row.name for row in found.rows)
    assert found["parts/eta 0.5/within/late/coat"].value is not None
    assert found["statistics/eta 0.5/predicted"].value == 4
    assert found["statistics/eta 0.5/block 0/std"].value == pytest.approx(1, abs=0.2)
    assert found["family/gan/shuffled/coat"].n == 8 and found["kinship/strangers/coat"].n == 8
    text = {name: results.markdown_table(found.rows, table) for name, table in found.tables.items()}
    assert "| flow (not trained) | - |" in text["families"] and "| relatives (not trained) | - |" in text["kinship"]
    assert "| 20 steps, all pairs |" in text["training"] and "| 0.5, across, start |" not in text["parts"]
    assert "| eta 0.5, across, start |" in text["parts"]
    files = {file.name for file in (tmp_path / "out").iterdir()}
    assert {
        "codes-eta-0.5.png",
        "codes-eta.svg",
        "codes-parts-0.5.svg",
        "codes-blocks.svg",
        "codes-training.svg",
    } <= files


def test_without_runs_the_rest_is_measured(tiny_load, tmp_path):
    settings = SMALL | {"load": tiny_load, "runs": str(tmp_path / "none")}
    found = results.read("codes", reproduce("codes", quick=True, out=tmp_path, **settings).parent)
    assert found["eta 0.5/cat-wild/coat"].n == 8 and "training" not in found.tables
    text = results.markdown_table(found.rows, found.tables["kinship"])
    assert text.count("(not trained) | - |") == 4


def test_a_stage_has_the_averaged_weights_of_its_step(tiny_load, tmp_path):
    model = tiny_load("critters-cat")
    for step in (30, 4):
        checkpoint(tmp_path, model, step, scale=step)
    found = stages(model, tmp_path)
    assert list(found) == [4, 30]
    for name, value in found[4].denoiser.named_parameters():
        assert torch.equal(value, 4 * dict(model.denoiser.named_parameters())[name])
    save(tmp_path / STAGE.format(1), {"network/other": torch.zeros(2)}, {"step": 1})
    with pytest.raises(ValueError, match="stage-000001.safetensors is of another network"):
        stages(model, tmp_path)


def readings(seed, n=4000):
    """Factors of independent numbers."""
    names = {name for names in CARRIED.values() for name in names}
    seeds = torch.arange(n) + seed
    made = {name: normal(seeds, (3,) if name in ("coat", "eye", "background") else (), name) for name in names}
    return made | {"pattern": (4 * torch.rand(n, generator=torch.Generator().manual_seed(seed))).long()}


def test_what_is_shared_is_found_and_chance_is_chance():
    a, other = readings(0), readings(100_000)
    b = other | {"tilt": 0.6 * a["tilt"] + 0.8 * other["tilt"], "coat": -a["coat"], "pattern": a["pattern"]}
    marks = carried([(a, b)])
    assert marks["tilt"].estimate.value == pytest.approx(0.6, abs=0.03)
    assert marks["coat"].estimate.value == pytest.approx(-1) and marks["pattern"].estimate.value == 1
    low, high = marks["size"].estimate.interval
    assert low < 0 < high or abs(marks["size"].estimate.value) < 0.05
    by_chance = carried([(a, shuffled(b))])
    assert abs(by_chance["tilt"].estimate.value) < 0.05
    assert by_chance["pattern"].estimate.value == pytest.approx(0.25, abs=0.03)
    both = carried([(a, b), (a, a)])
    assert both["tilt"].estimate.value == pytest.approx(0.8, abs=0.02) and both["tilt"].estimate.n == 4000


def test_parts_of_a_code_are_all_of_it():
    parts = parts_of(31)
    assert torch.cat(list(parts.values())).tolist() == list(range(31)) and len(parts["early"]) == 10
    code, others = torch.ones(2, 31, 1, 2, 2), torch.zeros(2, 31, 1, 2, 2)
    assert kept(code, others, parts["middle"]).mean((0, 2, 3, 4)).nonzero().flatten().tolist() == list(range(11, 21))
    with pytest.raises(ValueError, match="blocks: expected at least 4"):
        parts_of(3)
