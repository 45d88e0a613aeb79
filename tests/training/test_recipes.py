import json

import pytest

from minidiff import zoo
from minidiff.training.recipes import recipe


@pytest.mark.parametrize("name", zoo.names())  # which are all of them but a few: tests/test_zoo.py
def test_the_shipped_weights_come_from_the_recipe_in_the_repository(name):
    entry, fields = zoo.describe(name), json.loads(json.dumps(recipe(name).fields()))
    recorded = entry["recipe"] | {key: entry[key] for key in ("config", "kind", "licence", "seed", "steps")}
    for source in ("autoencoder_sha256", "text_sha256"):
        recorded.pop(source, None)  # checked when the model is loaded
    assert recorded == {key: value for key, value in fields.items() if key in recorded}
    assert entry["command"] == f"minidiff train {name}"


def test_an_unknown_recipe_is_refused_with_the_nearest_name():
    with pytest.raises(ValueError, match="there is none for 'critters-cats'; did you mean 'critters-cat'"):
        recipe("critters-cats")
