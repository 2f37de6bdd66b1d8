"""Where networks run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from avse.errors import AvseError

if TYPE_CHECKING:
    import torch

AUTO = "auto"


def find_device(name: str | torch.device = AUTO) -> torch.device:
    """The device of a name.

    Arguments
    ---------
    name : str or torch.device
        `cpu`, `cuda`, `cuda:1`, ...; `auto`: a GPU if there is one, else the CPU.

    Raises
    ------
    AvseError
        If there is no such device here.

    Example
    -------
    >>> find_device("cpu")
    device(type='cpu')
    """
    import torch

    if name == AUTO:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError, ValueError, TypeError) as error:
        names = ", ".join(["cpu", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))])
        raise AvseError(f"There is no device {str(name)!r} here. Choose auto or one of: {names}.") from error
    if device.type == "meta":
        raise AvseError("The device 'meta' holds no data. Choose auto, cpu or cuda.")
    return device
