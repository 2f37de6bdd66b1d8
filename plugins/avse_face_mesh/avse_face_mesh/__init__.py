"""The mouth tracker `face_mesh` for `avse`."""

from .face_mesh import FaceMesh, Mesh

__all__ = ["FaceMesh", "Mesh"]
