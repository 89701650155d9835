"""Kind of a document -> its page."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from iperfpy.errors import DocumentError
from iperfpy.report.compare_document import read
from iperfpy.report.pictures.comparison_page import page_of_comparison
from iperfpy.report.pictures.diagnosis_page import page_of_diagnosis
from iperfpy.report.pictures.latency_page import page_of_latency
from iperfpy.report.pictures.page_model import Page
from iperfpy.report.pictures.run_page import page_of
from iperfpy.store.run_index import COMPARE, DIAGNOSE, LATENCY, TEST
from iperfpy.store.stored_run import Run

Document = Mapping[str, Any]

PAGES: Mapping[str, Callable[[Document], Page]] = {
    TEST: lambda document: page_of(Run.from_document(document)),
    DIAGNOSE: page_of_diagnosis,
    COMPARE: lambda document: page_of_comparison(read(document)),
    LATENCY: page_of_latency,
}


def page_of_document(kind: str, document: Document) -> Page:
    """The page of a document of this kind. Raises `DocumentError`."""
    if kind not in PAGES:
        raise DocumentError(f"there is no page for the document of {kind}")
    return PAGES[kind](document)
