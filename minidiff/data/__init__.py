"""Sets of pictures: Critters (drawn, endless), Fashion-MNIST (real, small) and any folder of images, all behind one interface."""
