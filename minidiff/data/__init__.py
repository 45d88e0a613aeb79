"""Sets of pictures behind one interface: Critters (drawn, endless), Fashion-MNIST (real, small), any folder of images
or set of Hugging Face `datasets`."""
