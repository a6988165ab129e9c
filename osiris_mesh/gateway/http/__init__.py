"""HTTP/JSON under ``/v1``: one table of routes, from which application, checks and OpenAPI description come."""
