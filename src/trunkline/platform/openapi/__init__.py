"""The OpenAPI document of everything the platform serves: what is there, described by resource.

``document`` puts it together; the modules beside it hold the operations, one resource each.
"""
