"""Images and labels.

`catalogue` is the table of the data sets, `sources` what a source of images takes and gives, and
`datasets` loads one by its name. Each source has a file of its own. `readers` read file formats;
`forms` make images from images.
"""
