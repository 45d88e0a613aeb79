"""The terminal face of minidiff: every command is a few lines that call the package, and says what it wrote.

Heavy imports stand inside the commands, so that `minidiff --help` is there at once.
"""

import sys
from dataclasses import fields
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    name="minidiff",
    help="Latent diffusion and CycleDiffusion, small enough to read. Start with: minidiff tour, or: minidiff lab",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
data = typer.Typer(
    help="Get pictures: Fashion-MNIST found or fetched, Critters drawn into files.", no_args_is_help=True
)
app.add_typer(data, name="data")

Out = Annotated[Path, typer.Option("--out", "-o", help="The file to write.")]
Steps = Annotated[int | None, typer.Option(help="Steps of the full grid (default: the model's, 50).")]
Eta = Annotated[float | None, typer.Option(help="Noise of the sampler: 0 is the ODE, 1 is DDPM.")]
Seed = Annotated[int, typer.Option(help="Picture i is made from seed + i.")]
Device = Annotated[str, typer.Option(help='"cpu", "cuda", ...')]
Negative = Annotated[str, typer.Option(help="The caption that guidance leads away from.")]
Interval = Annotated[
    tuple[float, float], typer.Option(help="The part of the noise axis with guidance, from 0 (clean) to 1 (noise).")
]
Fast = Annotated[bool, typer.Option("--fast", help="The same sooner; the first time, some seconds to measure how.")]


class Method(StrEnum):
    cyclediffusion = "cyclediffusion"
    sdedit = "sdedit"
    ddib = "ddib"


class Trajectory(StrEnum):
    posterior = "posterior"
    independent = "independent"


class ControlKind(StrEnum):
    replace = "replace"
    refine = "refine"


class Memory(StrEnum):
    half = "half"
    slicing = "slicing"
    offload = "offload"
    sequential = "sequential"


@app.callback(invoke_without_command=True)
def common(
    debug: Annotated[bool, typer.Option("--debug", help="Show the full traceback of an error.")] = False,
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
) -> None:
    if version:
        from minidiff import __version__

        typer.echo(f"minidiff {__version__}")
        raise typer.Exit


@app.command()
def tour(out: Annotated[Path, typer.Option("--out", "-o", help="The folder to write.")] = Path("tour")) -> None:
    """The whole package in a minute: sample, reconstruct, translate; writes pictures and an index.html."""
    from minidiff.tour import run

    run(out)


@app.command()
def train(
    name: Annotated[str, typer.Argument(help="A model of the zoo, such as critters-cat.")],
    steps: Annotated[int | None, typer.Option(help="Stop after so many steps (default: the recipe's).")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The folder of the run (default: runs/NAME).")] = None,
    resume: Annotated[bool, typer.Option(help="Go on with the run that is in the folder.")] = True,
    export: Annotated[bool, typer.Option("--export", help="Put the result into the zoo.")] = False,
) -> None:
    """Train one model of the zoo by its recipe; a run that was stopped goes on where it was."""
    from minidiff.training.command import run

    _say(f"The run is in {run(name, steps=steps, out=out, resume=resume, export=export)}")


@app.command()
def sample(
    name: Annotated[str, typer.Argument(help="A model of the zoo, such as critters-cat.")],
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="How many pictures.")] = 16,
    steps: Steps = None,
    eta: Eta = None,
    psi: Annotated[float | None, typer.Option(help="Truncation of a GAN, in [0, 1]: below 1 is more average.")] = None,
    seed: Seed = 0,
    text: Annotated[str | None, typer.Option(help="A caption, for a model that reads them.")] = None,
    label: Annotated[str | None, typer.Option(help="A species, for a model that was told them.")] = None,
    layout: Annotated[
        Path | None, typer.Option(help="A semantic map to draw, as `minidiff data critters --layouts` writes them.")
    ] = None,
    low_res: Annotated[Path | None, typer.Option(help="A picture of a quarter of the side, to be enlarged.")] = None,
    blurred: Annotated[Path | None, typer.Option(help="A blurred picture, to be sharpened.")] = None,
    known: Annotated[Path | None, typer.Option(help="A picture with a hole, which --mask shows.")] = None,
    mask: Annotated[Path | None, typer.Option(help="White where --known is kept, black where it is painted.")] = None,
    negative: Negative = "",
    scale: Annotated[float, typer.Option(help="Guidance: 1 is none, above 1 exaggerates the condition.")] = 1.0,
    interval: Interval = (0.0, 1.0),
    device: Device = "cpu",
    fast: Fast = False,
    out: Out = Path("sample.png"),
) -> None:
    """New pictures from a trained model, free or to a caption, a species, a map or another picture; as one PNG."""
    from minidiff.inpaint import paste
    from minidiff.plot import save_png
    from minidiff.worlds import read_conditions

    _check_png(out)
    model = _generator(name, device, steps=steps, eta=eta, psi=psi)
    what = read_conditions(model.image_shape, layout=layout, low_res=low_res, blurred=blurred, known=known, mask=mask)
    what |= _given(label=None if label is None else _species(label))
    model = _told(model, text, scale=scale, negative=negative, interval=interval, **what)
    images = model.sample(count, seeds=seed, fast=fast)
    if known:
        picture, hole = (part.to(images) for part in what["known"])
        images = paste(picture, images, hole)
    typer.echo(f"Wrote {save_png(images, out, ncol=min(count, 8), scale=2)}")


@app.command()
def translate(
    images: Annotated[
        list[Path] | None, typer.Argument(help="Image files or folders (default: pictures of the world).")
    ] = None,
    source: Annotated[str, typer.Option("--from", help="The model that encodes.")] = "critters-cat",
    target: Annotated[str, typer.Option("--to", help="The model that decodes.")] = "critters-dog",
    method: Annotated[
        Method, typer.Option(help="CycleDiffusion, or a rival to compare it with.")
    ] = Method.cyclediffusion,
    strength: Annotated[float | None, typer.Option(help="How far up the noise axis, in (0, 1].")] = None,
    eta: Eta = None,
    steps: Steps = None,
    refine: Annotated[float, typer.Option(help="Denoise the result once more from this strength.")] = 0.0,
    seed: Seed = 0,
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="How many pictures of the world.")] = 8,
    device: Device = "cpu",
    fast: Fast = False,
    out: Out = Path("translation.png"),
) -> None:
    """Translate pictures with two models that never saw each other's: sources above, translations below, as one PNG.

    Without IMAGES, held-out pictures of the source model's world are taken; for Critters a third row shows the true answer.
    """
    from minidiff import cycle
    from minidiff.plot import grid
    from minidiff.worlds import held_out, read_images, truth

    _check_png(out)
    encoder, decoder = (_told(_diffusion(name, device), None) for name in (source, target))
    pictures = read_images(images, encoder.image_shape) if images else held_out(source)[:count]
    settings = _given(strength=strength, eta=eta, steps=steps) | {"seeds": seed, "refine": refine, "fast": fast}
    result = cycle.translate(encoder, decoder, pictures.to(device), method.value, **settings)
    rows = {source: pictures, method.value: result}
    if not images and (answers := truth(source, target, count)) is not None:
        rows["truth"] = answers
    picture = grid(list(rows.values()), alt=f"{source} translated to {target}.", row_labels=list(rows), display=False)
    typer.echo(f"Wrote {picture.save(out)}, from the top: {', '.join(rows)}")


@app.command()
def edit(
    images: Annotated[
        list[Path] | None, typer.Argument(help="Image files or folders (default: held-out pictures of the world).")
    ] = None,
    target: Annotated[str, typer.Option("--target", help="The caption of the picture you want.")] = ...,
    source: Annotated[
        str | None, typer.Option("--source", help="The caption of the picture there is (known for the world's own).")
    ] = None,
    name: Annotated[
        str, typer.Option("--model", help="A model that reads captions; or a diffusers folder or hub id: owner/name.")
    ] = "critters-text",
    save_memory: Annotated[
        list[Memory] | None,
        typer.Option(
            help="For diffusers: float16; attention in slices; weights on the device by the part, or by the layer. Repeat it."
        ),
    ] = None,
    method: Annotated[Method, typer.Option(help="CycleDiffusion, or a rival.")] = Method.cyclediffusion,
    strength: Annotated[float, typer.Option(help="How far up the noise axis, in (0, 1].")] = 0.7,
    scale: Annotated[float, typer.Option(help="Guidance on the way out.")] = 3.0,
    source_scale: Annotated[float, typer.Option(help="Guidance on the way in.")] = 1.0,
    negative: Negative = "",
    interval: Interval = (0.0, 1.0),
    trajectory: Annotated[Trajectory, typer.Option(help='"independent" is edit-friendly.')] = Trajectory.posterior,
    control: Annotated[ControlKind | None, typer.Option(help="Keep the source's attention.")] = None,
    cross_part: Annotated[
        float, typer.Option(help="--control of attention to words, for this part of the steps.")
    ] = 0.8,
    self_part: Annotated[float, typer.Option(help="--control of attention to places, likewise.")] = 0.4,
    local: Annotated[
        float | None, typer.Option(help="Change only where the captions disagree: by this part of the most, in (0, 1).")
    ] = None,
    eta: Eta = None,
    steps: Steps = None,
    seed: Seed = 0,
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="How many pictures of the world.")] = 8,
    candidates: Annotated[
        bool, typer.Option("--candidates", help="Search strengths, scales and seeds; says first what that costs.")
    ] = False,
    clip: Annotated[
        str, typer.Option(help='Who ranks candidates: a CLIP, or any of open_clip\'s: "open_clip:ViT-B-32/openai".')
    ] = "critters-clip",
    device: Device = "cpu",
    fast: Fast = False,
    out: Out = Path("edit.png"),
) -> None:
    """Change a picture by changing its caption: sources above, edits below, as one PNG.

    With --candidates the best of many edits by directional CLIP, and the one in the middle of the ranking beside it; a CSV
    file beside the PNG says where each candidate came from. --strength and --scale are then not used.
    """
    from minidiff.attention_control import Control
    from minidiff.edit import edit as change
    from minidiff.plot import grid
    from minidiff.worlds import held_out, read_images, told

    _check_png(out)
    if images and source is None:
        raise ValueError("--source: say what is in the picture, such as --source 'a grey cat on a blue background'")
    if not images and _is_pipeline(name):
        raise ValueError(f"IMAGES: {name} has no pictures of its own to edit; name image files")
    model = _diffusion(name, device, **_memory_settings(save_memory or []))
    pictures = read_images(images, model.image_shape) if images else held_out(name)[:count]
    before = source if source is not None else told(name, count)
    settings = _given(
        control=control and Control(control.value, cross_part, self_part), local=local, eta=eta, steps=steps
    )
    settings |= {"method": method.value, "source_scale": source_scale, "trajectory": trajectory.value}
    settings |= {"negative": negative, "interval": interval, "fast": fast}
    if candidates:
        rows = {"source": pictures} | _search(model, pictures.to(device), before, target, settings, clip, seed, out)
    else:
        settings |= {"strength": strength, "scale": scale, "seeds": seed}
        rows = {"source": pictures, "edit": change(model, pictures.to(device), before, target, **settings)}
    picture = grid(list(rows.values()), alt=f"Pictures edited to: {target}.", row_labels=list(rows), display=False)
    typer.echo(f"Wrote {picture.save(out)}, from the top: {', '.join(rows)}")


@app.command()
def guide(
    energy: Annotated[
        list[str],
        typer.Option(
            help='A wish: "clip: a cat wearing glasses", "tilt = 0.3", "no hat", "5 * glasses", "identity: PICTURE.png"; '
            "several add up."
        ),
    ],
    name: Annotated[str, typer.Option("--model", help="The model to guide.")] = "critters-cat",
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="How many chains.")] = 4,
    steps: Annotated[int, typer.Option(help="Steps of Langevin dynamics.")] = 200,
    step_size: Annotated[float, typer.Option(help="h of a step.")] = 0.05,
    last_step_size: Annotated[float | None, typer.Option(help="h of the last step, reached by and by.")] = None,
    candidates: Annotated[int, typer.Option(min=1, help="Random codes of which a chain begins at the best.")] = 1,
    adjusted: Annotated[bool, typer.Option("--adjusted", help="Accept or reject each step: no bias (MALA).")] = False,
    sampler_steps: Annotated[int | None, typer.Option(help="Steps of the sampler's full grid (default: 50).")] = None,
    gradient_steps: Annotated[
        int | None, typer.Option(help="Steps of the sampler for the energies (default: 10 if --eta is 0, else all).")
    ] = None,
    eta: Annotated[
        float | None,
        typer.Option(help="Noise of the sampler: 0 is the ODE (default), above it every step has its code."),
    ] = None,
    text: Annotated[str | None, typer.Option(help="A caption, for a model that reads them.")] = None,
    probe: Annotated[str | None, typer.Option(help="Who reads attributes (default: the probe of the world).")] = None,
    clip: Annotated[
        str, typer.Option(help='A CLIP, or any of open_clip\'s: "open_clip:ViT-B-32/openai".')
    ] = "critters-clip",
    identity: Annotated[str | None, typer.Option(help="Who knows individuals (default: that of the world).")] = None,
    copies: Annotated[int, typer.Option(min=0, help="Augmented copies that CLIP looks at.")] = 8,
    seed: Seed = 0,
    resume: Annotated[bool, typer.Option(help="Go on with a stopped run of the same words.")] = True,
    device: Device = "cpu",
    out: Out = Path("guide.png"),
) -> None:
    """Langevin dynamics on a model's codes towards a wish: starts above, ends below, as one PNG, and the mean energies."""
    from minidiff.energy_words import energy as from_words
    from minidiff.guide_run import report, run

    _check_png(out)
    model = _generator(name, device, steps=sampler_steps, eta=eta)
    if eta is None and hasattr(model, "sampler"):
        model = model.replace(eta=0.0)
    model = _told(model, text)
    if gradient_steps is None and getattr(model, "eta", None) == 0:
        gradient_steps = min(10, model.steps)
    world = name.partition("-")[0]
    judges = {"probe": probe or f"{world}-probe", "identity": identity or f"{world}-identity", "clip": clip}
    judges["copies"] = copies
    wish = from_words(" + ".join(energy), **judges, device=device)
    settings = {"count": count, "steps": steps, "step_size": step_size, "last_step_size": last_step_size}
    settings |= {"adjusted": adjusted, "gradient_steps": gradient_steps, "candidates": candidates, "seeds": seed}
    sampler = {"sampler_steps": getattr(model, "steps", None), "eta": getattr(model, "eta", None)}
    facts = {"model": name, "text": text, **sampler, **judges}
    done = run(model, wish, out, facts, resume, **settings)
    for line in report(wish, done, adjusted):
        typer.echo(line)
    typer.echo(f"Wrote {out}, from the top: start, end")


@app.command()
def reproduce(
    name: Annotated[str | None, typer.Argument(help="The study; without it, the list of them.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A small form of it, under a minute.")] = False,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The folder to write (default: results, or a new one if quick).")
    ] = None,
) -> None:
    """Measure a figure of the README or a lesson again and write results/NAME.json."""
    from minidiff.evaluation import studies

    if name is None:
        for known, study in studies.STUDIES.items():
            typer.echo(f"{known:24} {(study.__doc__ or '').strip().splitlines()[0]}")
        return
    _say(f"Wrote {studies.reproduce(name, quick=quick, out=out)}")


@app.command()
def export(
    name: Annotated[str, typer.Argument(help="A diffusion model, such as critters-cat.")],
    onnx: Annotated[Path, typer.Option("--onnx", help="The folder to write.")],
    steps: Steps = None,
    eta: Eta = None,
) -> None:
    """A model for programs without PyTorch: its networks as ONNX files, checked, and sampler.json with what to do between."""
    from minidiff import zoo
    from minidiff.bridges.onnx import export as to_onnx

    model = _diffusion(name, "cpu").replace(**_given(steps=steps, eta=eta))
    licence = zoo.manifest().get(name, {}).get("licence")
    written = to_onnx(model, onnx, {"name": name, "licence": licence})
    typer.echo(f"Wrote {', '.join(path.name for path in written)} into {onnx}")


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def lab(context: typer.Context) -> None:
    """Open the lessons in JupyterLab. Options go to JupyterLab: --no-browser on a server, --port=8889."""
    from minidiff.lab import start

    raise typer.Exit(start(context.args))


@app.command()
def doctor() -> None:
    """Check this installation, down to a first picture; exit code 1 if something is wrong."""
    from minidiff.doctor import checks, healthy

    found = []
    for check in checks():
        typer.echo(check)
        found.append(check)
    raise typer.Exit(0 if healthy(found) else 1)


@data.command()
def fashion() -> None:
    """Find Fashion-MNIST on this machine, or download and check it (30 MB); prints where it is."""
    from minidiff.data.fashion_files import find_or_fetch, read

    for split in ("train", "test"):
        folder = find_or_fetch(split)
        typer.echo(f"{split:5} {len(read(folder, split)[1]):6} pictures in {folder}")


@data.command()
def critters(
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder to write.")] = Path("critters"),
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="How many of each species.")] = 100,
    species: Annotated[str, typer.Option(help='"cat", "dog", "wild", or "all" for a subfolder of each.')] = "all",
    size: Annotated[int, typer.Option(min=8, help="Side in pixels.")] = 64,
    seed: Annotated[int, typer.Option(help="Which stream of pictures.")] = 0,
    layouts: Annotated[Path | None, typer.Option(help="A folder for their semantic maps.")] = None,
) -> None:
    """Draw Critters into PNG files, one folder a species, as AFHQ lays out its photographs."""
    from tqdm import tqdm

    from minidiff.data.critters import NAMES, Critters
    from minidiff.worlds import write_layouts, write_pictures

    names = NAMES if species == "all" else (species,)
    worlds = {name: Critters(name, length=count, seed=seed, size=size) for name in names}
    with tqdm(total=count * len(names), unit="picture", delay=2) as bar:
        for name, world in worlds.items():
            for _ in write_pictures(world, out / name):
                bar.update()
            for _ in write_layouts(world, layouts / name) if layouts else ():
                pass
    typer.echo(f"Wrote {count * len(names)} pictures into {out}" + (f", their maps into {layouts}" if layouts else ""))


def _given(**settings) -> dict:
    """Only the settings that were given: the model's own stand for the rest."""
    return {name: value for name, value in settings.items() if value is not None}


def _say(text: str) -> None:
    """Print; of several processes (`accelerate launch -m minidiff.cli ...`) the first alone does."""
    from minidiff.processes import here

    if here()[0] == 0:
        typer.echo(text)


def _check_png(out: Path) -> None:
    """Refuse a name that is no picture before any work is done."""
    if out.suffix.lower() != ".png" or out.is_dir():
        raise ValueError(f"--out: expected the name of a .png file, got {out}")


def _is_pipeline(name: str) -> bool:
    """Whether the name is a folder or a hub id ("owner/name"), not a model of the zoo."""
    from minidiff import zoo

    return name not in zoo.names() and ("/" in name or Path(name).is_dir())


def _model(name: str, device: str, **memory):
    """A model of the zoo, or a pipeline of diffusers."""
    import minidiff

    if _is_pipeline(name):
        return minidiff.load_pipeline(name, device, **memory)
    if memory:
        raise ValueError(f"--save-memory: only for pipelines of diffusers, {name} is small")
    return minidiff.load(name, device)


def _generator(name: str, device: str, **settings):
    """A model that makes pictures of codes, of any family, with the settings that were given, or ValueError."""
    model, settings = _model(name, device), _given(**settings)
    if not hasattr(model, "code_shape"):
        raise ValueError(f"{name} is a {type(model).__name__.lower()}: expected a generator such as critters-cat")
    known = {field.name for field in fields(model)}
    if unknown := sorted(settings.keys() - known):
        raise ValueError(f"{name} is a {type(model).__name__}, which has no {' and no '.join(unknown)}")
    return model.replace(**settings)


def _diffusion(name: str, device: str, **memory):
    """A model that diffuses, or ValueError."""
    from minidiff.generators import LatentDiffusion

    model = _model(name, device, **memory)
    if not isinstance(model, LatentDiffusion):
        raise ValueError(f"{name} is a {type(model).__name__}: expected a diffusion model such as critters-cat")
    return model


def _told(model, text: str | None, **what):
    """The model told a caption and more where there is any, or the empty caption where it waits for one."""
    asked = text is not None or what.keys() - {"scale", "negative", "interval"}
    if asked and not hasattr(model, "given"):
        raise ValueError(f"{'text' if text is not None else 'condition'}: a {type(model).__name__} takes no condition")
    return model.given(text, **what) if asked or getattr(model, "text", None) else model


def _species(name: str) -> int:
    """The class label of a species."""
    from minidiff.data.critters import NAMES

    if name not in NAMES:
        raise ValueError(f"--label: expected one of {', '.join(NAMES)}, got {name!r}")
    return NAMES.index(name)


def _search(model, pictures, source, target: str, settings: dict, clip: str, seed: int, out: Path) -> dict:
    """The best of many edits of each picture and the one in the middle, as rows; all of them in a CSV file beside `out`."""
    import torch

    from minidiff.candidates import Search, as_csv, scores
    from minidiff.files import write_whole
    from minidiff.zoo import load_clip

    search = Search(model, load_clip(clip, str(pictures.device)), seeds=range(seed, seed + 3), settings=settings)
    typer.echo(f"{search}, for {len(pictures)} picture{'s' * (len(pictures) > 1)}")
    sources = [source] * len(pictures) if isinstance(source, str) else source
    found = search.run_all(pictures, sources, [target] * len(pictures))
    marks = [scores(ranked) for ranked in found]
    selected, unselected = (sum(mark[which] for mark in marks) / len(marks) for which in ("selected", "unselected"))
    typer.echo(f"Directional CLIP: the best {selected:.3f}; one taken at random {unselected:.3f}")
    typer.echo(f"Wrote {write_whole(out.with_suffix('.csv'), as_csv(found))}, all candidates")
    choices = {"best": 0, "middle": len(search.candidates) // 2}
    return {name: torch.stack([ranked[place].image for ranked in found]) for name, place in choices.items()}


def _memory_settings(switches: list[Memory]) -> dict:
    """The switches as arguments of `load_pipeline`."""
    import torch

    offload = {Memory.offload: "model", Memory.sequential: "sequential"}
    return _given(
        dtype=torch.float16 if Memory.half in switches else None,
        attention_slicing=Memory.slicing in switches or None,
        cpu_offload=next((how for switch, how in offload.items() if switch in switches), None),
    )


def main() -> None:
    """Errors that the user can mend are one line and exit code 2; `--debug` shows where they come from."""
    try:
        app(prog_name="minidiff")
    except (ValueError, OSError) as error:
        if "--debug" in sys.argv:
            raise
        typer.secho(f"minidiff: {error}", fg="red", err=True)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
