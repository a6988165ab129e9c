"""The mesh's names in DNS (R34): ``dig SRV sharpen.image-processing.mesh``."""
