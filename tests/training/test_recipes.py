import json

import pytest

from minidiff import zoo
from minidiff.training.recipes import RECIPES, recipe
from minidiff.training.relatives import RELATIVES

NOT_YET_TRAINED = {  # strict: a model that has weights must not be on the list, nor one missing that has none
    "afhq-cat", "afhq-dog", "afhq-wild",
    *(one.name for one in RELATIVES),  # on purpose: only a study compares them
}  # fmt: skip


def test_every_recipe_has_its_weights_or_is_known_to_have_none():
    assert set(RECIPES) - set(zoo.names()) == NOT_YET_TRAINED


@pytest.mark.parametrize("name", [name for name in RECIPES if name not in NOT_YET_TRAINED])
def test_the_shipped_weights_come_from_the_recipe_in_the_repository(name):
    entry, fields = zoo.describe(name), json.loads(json.dumps(recipe(name).fields()))
    recorded = entry["recipe"] | {key: entry[key] for key in ("config", "kind", "licence", "seed", "steps")}
    sources = {key for key in recorded if key.endswith("_sha256")}  # checked when the model is loaded
    assert recipe(name).completed({key: recorded[key] for key in recorded.keys() - sources}) == fields
    assert entry["command"] == f"minidiff train {name}"


def test_an_unknown_recipe_is_refused_with_the_nearest_name():
    with pytest.raises(ValueError, match="there is none for 'critters-cats'; did you mean 'critters-cat'"):
        recipe("critters-cats")
