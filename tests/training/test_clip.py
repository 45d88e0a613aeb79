"""The contrastive loss against a computation by hand, and a tiny CLIP from training to the zoo and back."""

import math

import pytest
import torch
import torch.nn.functional as F

from minidiff import zoo
from minidiff.data.captions import short_captions
from minidiff.data.tokens import Tokenizer
from minidiff.nets.clip import Clip
from minidiff.training.bank import batch_seeds, draw
from minidiff.training.clip import contrastive
from minidiff.training.export import export
from minidiff.training.loop import train
from minidiff.training.recipes import RECIPES


def test_two_pairs_by_hand():
    """Logits 2 [[1, 0], [0.6, 0.8]]: the right ones lead by 2 and 0.4 in the rows, by 0.8 and 1.6 in the columns."""
    images, texts = torch.tensor([[1.0, 0.0], [0.6, 0.8]]), torch.eye(2)
    loss = contrastive(images, texts, torch.tensor(2.0), torch.tensor([[1, 2], [1, 3]]))
    wanted = sum(math.log(1 + math.exp(-gap)) for gap in (2.0, 0.4, 0.8, 1.6)) / 4
    assert loss.item() == pytest.approx(wanted, abs=1e-6)


def test_items_of_one_caption_are_no_wrong_answers_to_each_other():
    torch.manual_seed(0)
    images, texts = (F.normalize(torch.randn(3, 4), dim=1) for _ in range(2))
    texts[2] = texts[0]  # the same words, so the same vector
    images.requires_grad_()
    loss = contrastive(images, texts, torch.tensor(5.0), torch.tensor([[7], [8], [7]]))
    logits = 5.0 * images @ texts.T
    kept = [[0, 1], [0, 1, 2], [1, 2]]  # what each row and each column is chosen among
    terms = [logits[i, kept[i]].logsumexp(0) - logits[i, i] for i in range(3)]
    terms += [logits[kept[i], i].logsumexp(0) - logits[i, i] for i in range(3)]
    assert loss.item() == pytest.approx(sum(terms).item() / 6, abs=1e-6)
    loss.backward()
    assert images.grad.isfinite().all()
    apart = contrastive(images, texts, torch.tensor(5.0), torch.tensor([[7], [8], [9]]))
    assert apart > loss + 0.1


def test_every_item_bears_the_loss_of_its_batch(clip_recipe):
    bank, seeds = clip_recipe.bank(), torch.arange(48)
    torch.manual_seed(0)
    network = clip_recipe.network()
    loss = clip_recipe.loss(network, bank, seeds)
    assert loss.shape == (48,) and (loss == loss[0]).all()
    assert torch.equal(loss, clip_recipe.loss(network, bank, seeds))  # all chance is in the seeds
    assert not torch.equal(loss, clip_recipe.loss(network, bank, seeds + 48))
    loss.mean().backward()
    assert all(weight.grad is not None for weight in network.parameters())


def test_the_bank_holds_the_captions_of_its_pictures(clip_recipe):
    bank, pictures = clip_recipe.bank(), clip_recipe.pictures()
    rows = draw(bank, batch_seeds(1, 0, 8))
    assert rows["tokens"].shape == (8, 20) and bank["images"].shape == (48, 3, 16, 16)
    decoded = [Tokenizer().decode(row) for row in bank["tokens"]]
    assert decoded == short_captions(pictures.factors(slice(0, 48)), torch.arange(48))


def test_from_training_to_the_zoo_and_back(clip_recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(zoo, "WEIGHTS", tmp_path / "weights")
    steps = list(train(clip_recipe, tmp_path / "run", cpu=True, command="minidiff train tiny-clip"))
    assert steps[-1].loss < steps[0].loss - 0.1
    export(tmp_path / "run", chosen=clip_recipe)
    entry, clip = zoo.describe("tiny-clip"), zoo.load("tiny-clip")
    assert type(clip) is Clip and not clip.training
    assert all(weight.dtype == torch.float32 and not weight.requires_grad for weight in clip.parameters())
    figures = clip_recipe.figures(clip)
    assert figures == pytest.approx(entry["figures"], abs=1e-4)
    assert 0 <= figures["held_out_picture_to_caption"] <= 1 and figures["held_out_pictures"] % 4 == 0
    assert figures["captions_to_choose_from"] == 4 and abs(figures["held_out_clip_score"]) <= 1
    assert torch.equal(zoo.load_clip("tiny-clip").encode_text("a cat"), clip.encode_text("a cat"))


def test_words_that_the_model_never_learnt_are_refused(clip_recipe, tmp_path):
    fields = clip_recipe.fields()["config"]
    assert type(zoo.network_of("clip", fields)) is Clip
    with pytest.raises(ValueError, match="words: the model knows .* train the model again"):
        zoo.network_of("clip", fields | {"words": ["cat", *fields["words"]]})


def test_the_recipe_is_trained_on_all_species_and_judged_on_the_held_out_seed():
    recipe = RECIPES["critters-clip"]
    pictures, held_out = recipe.pictures(), recipe.held_out()
    assert (pictures.species, pictures.seed, held_out.seed) == ("all", 105, 2) and pictures.rates["hat"] == 0.15
    assert recipe.group == 64 and len(held_out) >= 20 * 64
