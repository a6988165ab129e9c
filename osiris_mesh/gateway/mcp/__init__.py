"""Every function of the mesh is a tool of the Model Context Protocol."""
