"""Faces of the controller: its control socket first."""
