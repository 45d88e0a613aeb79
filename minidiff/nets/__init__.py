"""The networks: an autoencoder, a U-Net, a probe, a CLIP and the blocks they share; one frozen config dataclass per network."""
