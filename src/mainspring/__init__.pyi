"""The typed face of the package, which loads its names late; `tests/test_package.py` keeps both in step."""

from mainspring.app.pipeline import Pipeline as Pipeline
from mainspring.app.project import Loop as Loop
from mainspring.core.declarations import ABTest as ABTest
from mainspring.core.declarations import Bandit as Bandit
from mainspring.core.declarations import Canary as Canary
from mainspring.core.declarations import Clean as Clean
from mainspring.core.declarations import Gate as Gate
from mainspring.core.declarations import Immediate as Immediate
from mainspring.core.declarations import Manual as Manual
from mainspring.core.declarations import Monitor as Monitor
from mainspring.core.declarations import Privacy as Privacy
from mainspring.core.declarations import Retrain as Retrain
from mainspring.core.declarations import Search as Search
from mainspring.core.declarations import Shadow as Shadow
from mainspring.core.declarations import Split as Split
from mainspring.core.declarations import log as log
from mainspring.core.errors import MainspringError as MainspringError
from mainspring.core.joins import join as join
from mainspring.core.object_stores import S3 as S3
from mainspring.core.object_stores import Azure as Azure
from mainspring.core.object_stores import Gcs as Gcs
from mainspring.core.sources import Http as Http
from mainspring.core.sources import Paging as Paging
from mainspring.core.sources import arrow as arrow
from mainspring.core.sources import csv as csv
from mainspring.core.sources import delta as delta
from mainspring.core.sources import excel as excel
from mainspring.core.sources import frame as frame
from mainspring.core.sources import iceberg as iceberg
from mainspring.core.sources import json as json
from mainspring.core.sources import parquet as parquet
from mainspring.core.sources import rest as rest
from mainspring.core.sources import sql as sql
from mainspring.pipeline.datafiles import file as file
from mainspring.pipeline.step import at_least as at_least
from mainspring.pipeline.step import step as step
from mainspring.store.formats import register_format as register_format

__version__: str
__all__: list[str]
