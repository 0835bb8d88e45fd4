"""The main job on something real: `python -m bolt.demo` reads a photographed page with a trained model."""
