"""The site's generated pages: one module per kind, one template per page."""
