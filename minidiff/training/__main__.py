"""`python -m minidiff.training NAME`: the trainer without the rest of the terminal face, for bare machines."""

import argparse

from minidiff.training.command import run
from minidiff.training.recipes import RECIPES

parser = argparse.ArgumentParser(prog="python -m minidiff.training", description="Train one model of the zoo.")
parser.add_argument("name", choices=sorted(RECIPES), metavar="NAME", help=", ".join(sorted(RECIPES)))
parser.add_argument("--steps", type=int, help="train for so many steps instead of the recipe's own number")
parser.add_argument("--out", help="folder of the run (default: runs/NAME)")
parser.add_argument("--resume", action=argparse.BooleanOptionalAction, default=True, help="go on where a run stopped")
parser.add_argument("--export", action="store_true", help="put the result into the zoo when it is done")
if __name__ == "__main__":
    run(**vars(parser.parse_args()))
