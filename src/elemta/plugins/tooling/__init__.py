"""What plugins are lent, as the server does it: see `elemta.plugins.tools` for what it promises."""

from elemta.plugins.tooling.cache import BoundedCache
from elemta.plugins.tooling.database import Database
from elemta.plugins.tooling.figures import Figures
from elemta.plugins.tooling.files import LogFiles, log_path
from elemta.plugins.tooling.mail import Submit
from elemta.plugins.tooling.names import check_name
from elemta.plugins.tooling.store import DiskStore
from elemta.plugins.tooling.toolbox import Toolbox

__all__ = [
    "BoundedCache",
    "Database",
    "DiskStore",
    "Figures",
    "LogFiles",
    "Submit",
    "Toolbox",
    "check_name",
    "log_path",
]
