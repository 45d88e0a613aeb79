"""Scores and retrieval on embeddings made by hand: a stand-in CLIP looks its vectors up."""

import pytest
import torch
import torch.nn.functional as F

from minidiff.evaluation.clip_scores import clip_score, directional_score, distinct_groups, retrieval, top_1


class Lookup:
    """Pictures (B, 2, 1, 1) are their own vectors, captions are angles in degrees."""

    def encode_images(self, images):
        return F.normalize(images.flatten(1), dim=1)

    def encode_text(self, texts):
        angles = torch.tensor([float(text) for text in ([texts] if isinstance(texts, str) else texts)]).deg2rad()
        return torch.stack([angles.cos(), angles.sin()], 1)


def pictures(*angles):
    return Lookup().encode_text([str(angle) for angle in angles])[..., None, None] * 3.0


def test_clip_score_is_the_cosine_of_the_angle():
    score = clip_score(Lookup(), pictures(0, 60, 180), ["0", "0", "0"])
    assert torch.allclose(score, torch.tensor([1.0, 0.5, -1.0]), atol=1e-6)
    assert torch.equal(clip_score(Lookup(), pictures(0, 60, 180), "0"), score)


def test_directional_score_compares_the_two_changes():
    before, after = pictures(0, 0, 0, 30), pictures(90, -90, 0, 90)
    score = directional_score(Lookup(), before, after, ["0", "0", "0", "30"], ["90", "90", "90", "90"])
    assert torch.allclose(score, torch.tensor([1.0, 0.0, 0.0, 1.0]), atol=1e-6)
    assert directional_score(Lookup(), pictures(0), pictures(180), "180", "0") == pytest.approx(-1)


def test_retrieval_counts_the_hits_each_way():
    angles = list(range(0, 80, 10))
    captions = [str(angle) for angle in angles]
    perfect = retrieval(Lookup(), pictures(*angles), captions, group=4)
    assert perfect == {"picture_to_caption": 1, "caption_to_picture": 1, "groups": 2}
    # The first picture lies at 6, so it takes caption 10 for its own, and caption 0 finds it all the same;
    # in the second group two pictures have changed places.
    found = retrieval(Lookup(), pictures(6, 10, 20, 30, 50, 40, 60, 70), captions, group=4, batch=3)
    assert found["picture_to_caption"] == pytest.approx((3 / 4 + 2 / 4) / 2)
    assert found["caption_to_picture"] == pytest.approx((4 / 4 + 2 / 4) / 2)


def test_top_1_by_hand():
    similarity = torch.tensor([[0.9, 0.1, 0.0], [0.8, 0.7, 0.0], [0.0, 0.6, 0.5]])
    assert top_1(similarity) == pytest.approx((1 / 3, 1.0))
    assert top_1(similarity.T) == pytest.approx((1.0, 1 / 3))


def test_a_group_never_holds_a_caption_twice():
    captions = [str(i % 5) for i in range(23)] + ["5", "6"]
    groups = distinct_groups(captions, size=4)
    assert all(len({captions[i] for i in group}) == len(group) == 4 for group in groups)
    used = torch.cat(groups).tolist()
    assert len(used) == len(set(used)) and len(groups) >= 5
    assert distinct_groups(["a", "a", "b", "c"], size=2)[0].tolist() == [0, 2]


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: clip_score(Lookup(), pictures(0, 1), ["0"]), "captions: expected one per picture, 2, .* got 1"),
        (
            lambda: directional_score(Lookup(), pictures(0, 0), pictures(1, 1), "0", ["1", "0"]),
            r"as before in pairs \[1\]",
        ),
        (lambda: retrieval(Lookup(), pictures(0, 1), ["0"], group=1), "captions: expected one per picture, 2, got 1"),
        (lambda: retrieval(Lookup(), pictures(0, 1), ["0", "0"], group=2), "expected at least 2 distinct ones, got 1"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
