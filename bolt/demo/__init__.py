"""The main job on something real: `bolt demo` reads a photographed page with a trained model."""
