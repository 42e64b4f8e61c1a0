"""Reads file formats and TensorFlow Datasets, whatever data set they hold."""
