"""The CLIP of Critters and open_clip's own, by the same calls: unit vectors, masks, preprocessing, refusals."""

import dataclasses
import json
import sys
from dataclasses import asdict

import pytest
import torch
from PIL import Image

from minidiff import zoo
from minidiff.data.captions import VOCABULARY
from minidiff.data.tokens import END, Tokenizer
from minidiff.nets import clip as clips
from minidiff.nets.clip import ClipConfig, new_clip, pretrained, register, small_config

TINY = ClipConfig(
    embed_dim=16,
    vision_cfg={"image_size": 32, "patch_size": 8, "width": 32, "head_width": 16, "layers": 2},
    text_cfg={"context_length": 20, "vocab_size": Tokenizer.vocab_size, "width": 24, "heads": 2, "layers": 2},
)
CAPTIONS = [
    "an orange cat on a red background",
    "a sad dog",
    "",
    "a baby smiling striped white wild wearing a blue hat",
]


@pytest.fixture(scope="module")
def clip():
    torch.manual_seed(0)
    return new_clip(TINY).double().eval()


@pytest.fixture
def foreign(small_open_clip):
    return zoo.load_clip(small_open_clip)


def test_pictures_and_captions_become_unit_vectors(clip):
    images = torch.rand(4, 3, 32, 32, dtype=torch.float64) * 2 - 1
    for vectors in (clip.encode_images(images), clip.encode_text(CAPTIONS)):
        assert vectors.shape == (4, 16)
        assert torch.allclose(vectors.norm(dim=1), torch.ones(4, dtype=torch.float64), atol=1e-12)
        assert (vectors @ vectors.T - torch.eye(4)).triu(1).max() < 1 - 1e-6  # and all differ


def test_items_do_not_see_each_other(clip):
    images = torch.rand(4, 3, 32, 32, dtype=torch.float64) * 2 - 1
    assert torch.allclose(clip.encode_images(images)[1:3], clip.encode_images(images[1:3]), atol=1e-12)
    assert torch.allclose(clip.encode_text(CAPTIONS)[3:], clip.encode_text(CAPTIONS[3]), atol=1e-12)
    hidden, mask = clip.text_tokens(CAPTIONS)
    assert torch.allclose(hidden[1:2], clip.text_tokens(CAPTIONS[1])[0], atol=1e-12)
    assert torch.equal(mask[1:2], clip.text_tokens(CAPTIONS[1])[1])


def test_the_mask_covers_start_words_and_end(clip):
    hidden, mask = clip.text_tokens(CAPTIONS)
    assert hidden.shape == (4, 20, 24) and mask.shape == (4, 20) and mask.dtype == torch.bool
    assert mask.sum(1).tolist() == [len(caption.split()) + 2 for caption in CAPTIONS]
    assert (mask.long().diff(dim=1) <= 0).all()  # once it is over, it is over


def test_what_is_padded_changes_nothing(clip):
    tokens = Tokenizer()(CAPTIONS)
    hidden, mask = clip.text_tokens(CAPTIONS)
    clip_tokenizer, clip.tokenizer = clip.tokenizer, lambda texts: torch.where(mask, tokens, 7)
    try:
        other = clip.text_tokens(CAPTIONS)[0]
        vectors = clip.encode_text(CAPTIONS)
    finally:
        clip.tokenizer = clip_tokenizer
    assert torch.equal(other[mask], hidden[mask]) and not torch.allclose(other[~mask], hidden[~mask])
    assert torch.equal(vectors, clip.encode_text(CAPTIONS))


def test_the_caption_vector_is_the_hidden_state_of_its_end(clip):
    """What Stable Diffusion attends to is the network that the retrieval test judges: nothing lies between but one map."""
    hidden, mask = clip.text_tokens(CAPTIONS)
    last = hidden[torch.arange(4), mask.sum(1) - 1] @ clip.model.text_projection
    assert torch.allclose(last / last.norm(dim=1, keepdim=True), clip.encode_text(CAPTIONS), atol=1e-12)


def test_words_and_their_order_matter(clip):
    vectors = clip.encode_text(["a red hat on a blue background", "a blue hat on a red background", "a blue hat"])
    assert torch.cdist(vectors, vectors).add(torch.eye(3)).min() > 1e-3


def test_pictures_of_every_size_and_grey_ones(clip):
    images = torch.rand(2, 3, 64, 64, dtype=torch.float64).round() * 2 - 1
    assert clip.prepare(images).shape == (2, 3, 32, 32) and clip.encode_images(images).shape == (2, 16)
    grey = images[:, :1]
    assert torch.equal(clip.encode_images(grey), clip.encode_images(grey.repeat(1, 3, 1, 1)))
    images.requires_grad_()
    clip.encode_images(images)[:, 0].sum().backward()
    assert images.grad.abs().sum() > 0


def test_the_logit_scale_starts_at_one_over_temperature_and_has_a_ceiling():
    model = new_clip(TINY)
    assert model.logit_scale.item() == pytest.approx(1 / 0.07)
    torch.nn.init.constant_(model.model.logit_scale, 10.0)
    assert model.logit_scale.item() == pytest.approx(100)


def test_the_small_config_is_of_the_stated_size_and_known_to_open_clip():
    import open_clip

    assert register() == register() == "minidiff-critters" in open_clip.list_models()
    theirs, ours = open_clip.create_model("minidiff-critters"), new_clip(small_config()).model
    shapes = [{name: value.shape for name, value in model.state_dict().items()} for model in (theirs, ours)]
    assert shapes[0] == shapes[1]
    assert 2e6 < sum(weight.numel() for weight in ours.parameters()) < 3e6
    assert small_config().text_cfg["context_length"] == Tokenizer().context_length and END == ours.vocab_size - 1


def test_configuration_survives_json_and_refuses_other_words():
    fields = json.loads(json.dumps(asdict(TINY)))
    assert ClipConfig(**fields | {"words": tuple(fields["words"])}) == TINY
    with pytest.raises(ValueError, match="words: the model knows .*train the model again"):
        dataclasses.replace(TINY, words=VOCABULARY[::-1])
    with pytest.raises(ValueError, match=f"vocab_size: expected {Tokenizer.vocab_size}, .* got 77"):
        dataclasses.replace(TINY, text_cfg=TINY.text_cfg | {"vocab_size": 77})


def test_a_model_of_open_clip_sees_pictures_as_its_own_preprocessing_shows_them(foreign):
    from open_clip.transform import PreprocessCfg, image_transform_v2

    how = image_transform_v2(PreprocessCfg(size=32), is_train=False)
    for side, tolerance in ((32, 1e-5), (96, 0.03)):  # resized, theirs rounds to whole colours on the way
        values = torch.randint(0, 256, (side, side, 3), dtype=torch.uint8)
        ours = foreign.prepare(values.permute(2, 0, 1)[None] / 127.5 - 1)
        assert (ours[0] - how(Image.fromarray(values.numpy()))).abs().max() < tolerance


def test_a_model_of_open_clip_answers_the_same_calls(foreign):
    texts = ["a photo of a turtle", "!"]
    assert foreign.encode_images(torch.zeros(2, 1, 28, 28)).shape == foreign.encode_text(texts).shape == (2, 8)
    assert torch.allclose(foreign.encode_text(texts).norm(dim=1), torch.ones(2), atol=1e-6)
    hidden, mask = foreign.text_tokens(texts)
    assert hidden.shape == (2, 77, 32) and mask.sum(1).tolist() == [7, 3]  # "!" is its number 0, and so is its padding
    assert not foreign.training and not any(weight.requires_grad for weight in foreign.parameters())


def test_unknown_names_are_refused(foreign):
    with pytest.raises(ValueError, match="no architecture 'ViT-B-33'; did you mean 'ViT-B-32'"):
        pretrained("ViT-B-33/openai")
    with pytest.raises(ValueError, match="no weights of Small-B-16 'on'; did you mean 'one'. known are none, one"):
        pretrained("Small-B-16/on")
    with pytest.raises(ValueError, match="no weights of Small-B-16 ''; known are none, one"):
        zoo.load_clip("open_clip:Small-B-16")
    with pytest.raises(ValueError, match="expected a CLIP, .* critters-probe is a probe"):
        zoo.load_clip("critters-probe")
    with pytest.raises(ValueError, match="no model 'critters-klip'"):
        zoo.load_clip("critters-klip")


def test_without_a_network_or_without_open_clip_the_error_says_so(foreign, monkeypatch):
    import open_clip

    def fail(*args, **kwargs):
        raise FileNotFoundError("Failed to download file")

    monkeypatch.setattr(open_clip, "create_model", fail)
    with pytest.raises(ConnectionError, match="Small-B-16/one is not on this machine and could not be fetched: Failed"):
        zoo.load_clip("open_clip:Small-B-16/one")
    monkeypatch.setitem(sys.modules, "open_clip", None)
    with pytest.raises(ImportError, match="pip install open_clip_torch"):
        clips.import_open_clip()


def test_bad_pictures_are_refused(clip):
    for shape in ((3, 32, 32), (1, 4, 32, 32), (1, 3, 32, 16)):
        with pytest.raises(ValueError, match=r"images: expected square pictures \(B, 3 or 1, H, H\), got"):
            clip.encode_images(torch.zeros(shape))
    with pytest.raises(ValueError, match="no word 'photo' in the grammar"):
        clip.encode_text("a photo of a cat")
    unmarked = new_clip(dataclasses.replace(TINY, text_cfg=TINY.text_cfg | {"pool_type": "last"}))
    with pytest.raises(ValueError, match="text_tokens: expected a model with CLIP's own text network"):
        unmarked.text_tokens("a cat")
