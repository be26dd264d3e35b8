"""InternVid from your own videos: clips, captions, scores, subsets, releases and ViCLIP as Dagster assets."""

__version__ = "0.1.0"
