"""minidiff: latent diffusion and CycleDiffusion, small enough to read and fast enough to play with."""

__version__ = "0.1.0"
__all__ = ["__version__", "load", "load_pipeline", "save_pipeline"]


def __getattr__(name: str):
    """`minidiff.load` appears when it is first asked for: importing minidiff alone imports nothing heavy.

    `load_pipeline` and `save_pipeline` are the bridges to diffusers.
    """
    if name == "load":
        from minidiff.zoo import load

        return load
    if name in ("load_pipeline", "save_pipeline"):
        from minidiff.bridges import pipelines

        return getattr(pipelines, name)
    raise AttributeError(f"module 'minidiff' has no attribute {name!r}")
