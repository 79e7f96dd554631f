"""The embedded default: a small convolutional network trained on real handwritten digits.

The folder ships its weights (``digits_cnn.safetensors``), the calibration and the
held-out images (``digits_images.npz``) and the script that made both (``train.py``).
"""
