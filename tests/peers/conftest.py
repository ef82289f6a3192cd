"""Preparations for importing the packages that these tests compare with."""

import torch


def declare_operators():
    """Make torchvision import, where it has been installed without its compiled operators.

    Its module `_meta_registrations` then stops at the first operator that torch does not know, and
    timm, which imports torchvision, with it. No MobileNet uses the two in question: declaring them
    is enough. The library that is returned must be kept, for its end withdraws what it declared.
    """
    try:
        import torchvision  # noqa: F401
    except ImportError:
        return None
    except RuntimeError:
        library = torch.library.Library("torchvision", "FRAGMENT")  # adds to what may be there
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        return library
    return None


OPERATORS = declare_operators()
