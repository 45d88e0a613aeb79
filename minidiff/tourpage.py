"""A tour as one HTML page that carries its own pictures: no script, no font, no link to anything outside."""

import html
from dataclasses import dataclass

from minidiff.machine import machine
from minidiff.plot import Picture


@dataclass(frozen=True)
class Stop:
    """One stop of the tour: a picture and what to see in it. `figures` are the numbers that this run measured."""

    name: str
    title: str
    words: str
    picture: Picture
    figures: dict[str, str]


def page(stops: list[Stop], seconds: float) -> str:
    """The stops as one HTML page that needs nothing but itself."""
    sections = "\n".join(section(number, stop) for number, stop in enumerate(stops, 1))
    facts = machine()
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>minidiff: a tour</title>
<style>{STYLE}</style>
</head>
<body>
<header>
<h1>minidiff: a tour</h1>
<p>A generative model is a map from random numbers to pictures. Some of these maps can be run backwards, and then one model
can finish what another has begun.</p>
</header>
<main>
{sections}
</main>
<footer>
<p>Computed by <code>minidiff tour</code> in {seconds:.0f} s on {html.escape(facts["processor"])}, {facts["cores"]} cores.
The lessons tell how it works: <code>make lab</code>.</p>
</footer>
</body>
</html>
"""


def section(number: int, stop: Stop) -> str:
    figures = "".join(f"<div><dt>{html.escape(n)}</dt><dd>{html.escape(v)}</dd></div>" for n, v in stop.figures.items())
    return (
        f'<section id="{stop.name}">\n<h2>{number}. {html.escape(stop.title)}</h2>\n<p>{html.escape(stop.words)}</p>\n'
        f"<figure>{stop.picture.html}</figure>\n<dl>{figures}</dl>\n</section>"
    )


STYLE = """
:root { color-scheme: light; }
body { margin: 0 auto; max-width: 50rem; padding: 1.5rem; font: 1.05rem/1.6 system-ui, sans-serif; color: #222;
  background: #fdfdfb; }
h1 { font-size: 2rem; margin: 1rem 0 0; }
h2 { font-size: 1.3rem; margin: 2.5rem 0 0.3rem; }
header p { font-size: 1.15rem; color: #444; }
figure { margin: 1rem 0 0.5rem; padding: 0.5rem; background: #fff; border: 1px solid #ddd; border-radius: 6px; }
figure img { display: block; width: 100% !important; height: auto; }
dl { display: flex; flex-wrap: wrap; gap: 0.4rem 2rem; margin: 0; }
dt { font-size: 0.9rem; color: #555; }
dd { margin: 0; font-size: 1.2rem; font-variant-numeric: tabular-nums; }
footer { margin-top: 3rem; border-top: 1px solid #ddd; font-size: 0.9rem; color: #555; }
"""
