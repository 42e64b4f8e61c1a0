"""Makes images from images: unfamiliar ones, digits from photos, pictures of one size."""
