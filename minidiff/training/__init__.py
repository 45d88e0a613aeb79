"""One training loop on Accelerate for every network; one recipe, a frozen dataclass instance, per model of the zoo.

for step in train(recipe("critters-cat"), "runs/critters-cat"):
    print(step.step, step.loss)
"""

from minidiff.training.loop import TrainStep, train
from minidiff.training.recipes import RECIPES, recipe

__all__ = ["RECIPES", "TrainStep", "recipe", "train"]
