"""The typed face of the package, which loads its names late; `tests/test_package.py` keeps both in step."""

from mainspring.app.project import Loop as Loop
from mainspring.app.project import Pipeline as Pipeline
from mainspring.core.declarations import Canary as Canary
from mainspring.core.declarations import Clean as Clean
from mainspring.core.declarations import Gate as Gate
from mainspring.core.declarations import Immediate as Immediate
from mainspring.core.declarations import Manual as Manual
from mainspring.core.declarations import Monitor as Monitor
from mainspring.core.declarations import Retrain as Retrain
from mainspring.core.declarations import Search as Search
from mainspring.core.declarations import Split as Split
from mainspring.core.declarations import csv as csv
from mainspring.core.declarations import frame as frame
from mainspring.core.declarations import log as log
from mainspring.core.declarations import parquet as parquet
from mainspring.core.declarations import sql as sql
from mainspring.core.errors import MainspringError as MainspringError
from mainspring.pipeline.datafiles import file as file
from mainspring.pipeline.step import at_least as at_least
from mainspring.pipeline.step import step as step
from mainspring.store.formats import register_format as register_format

__version__: str
__all__: list[str]
