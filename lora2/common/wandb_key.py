"""Find out whether wandb would find a key without asking for one, without an import of wandb."""

import netrc
import os
from urllib.parse import urlsplit


def has_wandb_key() -> bool:
    """Return whether a key is in the environment or in ~/.netrc."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        hosts = netrc.netrc(os.environ.get("NETRC")).hosts
    except (OSError, ValueError, netrc.NetrcParseError):  # ValueError: not text
        return False
    own = urlsplit(os.environ.get("WANDB_BASE_URL", "")).hostname
    return any("wandb" in host or host in (own, "api.forge.coreweave.com") for host in hosts)
