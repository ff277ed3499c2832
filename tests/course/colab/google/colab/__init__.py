"""A stand-in: on Colab this module is there and loaded, and that is how one knows Colab."""
