"""The networks: an autoencoder, a U-Net and the blocks they share; one frozen config dataclass per network."""
