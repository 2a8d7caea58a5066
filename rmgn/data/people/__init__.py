"""Generated people in garments: bodies, poses, cloth, light and the layers they are stored as."""
