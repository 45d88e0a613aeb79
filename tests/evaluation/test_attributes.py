"""Reading words back: perfect answers give the caption's own words, and each wrong one is counted where it belongs."""

import torch

from minidiff.data.captions import attributes_of
from minidiff.data.critters import COMMON_RATES, Critters
from minidiff.evaluation.attributes import agreement, pose_kept, read_attributes
from minidiff.evaluation.probes import critters_targets


def factors(count=60):
    return Critters("all", seed=5, rates=COMMON_RATES | {"baby": 0.3}).factors(slice(0, count))


def test_perfect_answers_read_as_the_attributes():
    ours = factors()
    assert read_attributes(critters_targets(ours)) == attributes_of(ours)


def test_wrong_answers_are_counted_where_they_belong():
    wanted = attributes_of(factors())
    answers = critters_targets(factors())
    answers["glasses"] = torch.where(torch.arange(60) < 6, 1 - answers["glasses"], answers["glasses"])
    answers["background"] = answers["background"].clone()
    answers["background"][57:] = 1 - answers["background"][57:]
    hits = agreement(read_attributes(answers), wanted)
    assert hits["glasses"].tolist() == [False] * 6 + [True] * 54
    assert hits["species"].all() and hits["coat"].all() and not hits["background"][57:].any()
    assert hits["all"].sum() == 51


def test_what_a_caption_leaves_open_cannot_be_wrong():
    seen = attributes_of(factors(1))
    asked = [seen[0] | {"coat": None, "background": None}]
    assert agreement(seen, asked)["all"].all()
    assert not agreement(seen, [asked[0] | {"species": {"cat": "dog"}.get(seen[0]["species"], "cat")}])["all"].any()


def test_a_pose_is_kept_within_two_pixels_and_seven_degrees():
    ours = factors(4)
    answers = critters_targets(ours)
    assert pose_kept(answers, ours).all()
    answers["x"] = ours.x + torch.tensor([0.0, 0.07, 0.05, 0.0])
    answers["tilt"] = ours.tilt + torch.tensor([0.0, 0.0, 0.0, -0.13])
    assert pose_kept(answers, ours).tolist() == [True, False, True, False]
