"""Bridges to other libraries; each is imported where it is used, so that minidiff itself needs none of them.

diffusers, both ways: `load_pipeline` makes an ordinary LatentDiffusion of a pipeline of theirs, `save_pipeline` writes
one of ours as a folder that their `DiffusionPipeline.from_pretrained` opens. `autoencoders`: an AutoencoderKL of theirs, by
its name, to train denoisers with. `onnx`: a model of ours for programs without PyTorch.
"""
