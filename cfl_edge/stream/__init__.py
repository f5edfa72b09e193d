"""Sources of frames: cameras, network streams, clips, folders and a rendered demonstration."""
