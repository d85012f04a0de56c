"""A test kit that checks stores, environments and other plugins against the rules of the suite.

It needs Hypothesis, which the rest of the package does not: ``pip install 'atommem-gym[test]'``.
"""

import lazy_loader

_attribute, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> object:
    try:
        return _attribute(name)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "hypothesis":
            raise
        raise ImportError(
            "atommem_gym.testing needs Hypothesis, which is not installed: pip install 'atommem-gym[test]'"
        ) from error
