"""Examples that run in one process: what one leaves behind must not reach the next."""


def forget_the_last_one(gallery_conf, script):
    """Begin each example with scikit-learn's own settings and the encoders that ship."""
    import sklearn

    from hybridus.encoders import registry

    global _SHIPPED
    if _SHIPPED is None:
        _SHIPPED = dict(registry._REGISTRY)
    registry._REGISTRY.clear()
    registry._REGISTRY.update(_SHIPPED)
    sklearn.set_config(enable_metadata_routing=False, transform_output="default")


_SHIPPED = None
