"""minidiff: latent diffusion and CycleDiffusion, small enough to read and fast enough to play with."""

__version__ = "0.1.0"
__all__ = ["__version__", "load"]


def __getattr__(name: str):
    """`minidiff.load` appears when it is first asked for: importing minidiff alone imports nothing heavy."""
    if name == "load":
        from minidiff.zoo import load

        return load
    raise AttributeError(f"module 'minidiff' has no attribute {name!r}")
