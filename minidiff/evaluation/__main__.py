"""`python -m minidiff.evaluation`: bring the figures in README, lessons and book in step with results/."""

from minidiff.evaluation.documents import documents, update

for path in update(documents()):
    print(f"updated {path}")
