"""Reading words back: perfect answers give the caption's own words, and each wrong one is counted where it belongs."""

import torch

from minidiff.data.captions import attributes_of
from minidiff.data.critters import COMMON_RATES, Critters
from minidiff.data.edits import edits
from minidiff.data.factors import BACKGROUNDS
from minidiff.evaluation.attributes import agreement, outcomes, pose_kept, read_attributes
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


def edited(todo):
    """Perfect answers for the true results."""
    answers = {name: value.clone() for name, value in critters_targets(todo.factors).items()}
    for i, name in enumerate(todo.changed):
        if name == "species":
            answers["species"][i] = ("cat", "dog", "wild").index(todo.after[i]["species"])
        elif name == "mood":
            answers["smile"][i] = {"smiling": 0.8, "sad": -0.8}[todo.after[i]["mood"]]
        else:
            answers["background"][i] = torch.tensor(BACKGROUNDS[todo.after[i]["background"]])
    return answers


def test_an_edit_is_marked_by_what_changed_and_by_all_that_should_not():
    todo = edits(2, seed=3, kinds=("species", "background", "expression"), size=16)
    success, kept = outcomes(critters_targets(todo.factors), todo)  # nothing done
    assert not success.any() and kept.all()
    answers = edited(todo)
    success, kept = outcomes(answers, todo)
    assert success.all() and kept.all()
    answers["tilt"] = answers["tilt"] + torch.tensor([0.0, 0.5, 0.0, 0.0, 0.0, 0.0])
    answers["glasses"][2] = 1 - answers["glasses"][2]
    success, kept = outcomes(answers, todo)
    assert success.all() and kept.tolist() == [True, False, False, True, True, True]


def test_a_smile_may_cross_the_border_of_a_word_but_not_move_by_a_word():
    todo = edits(4, seed=3, kinds=("background",), size=16)
    answers = edited(todo)
    answers["smile"] = todo.factors.smile + torch.tensor([0.3, -0.3, 0.4, -0.4])
    assert outcomes(answers, todo)[1].tolist() == [True, True, False, False]
