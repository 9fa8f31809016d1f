"""What the library has."""

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Book:
    """One book, of which there is one copy for each conversation."""

    title: str
    author: str
    about: frozenset[str]


def _book(title: str, author: str, about: str) -> Book:
    return Book(title, author, frozenset(about.split()))


BOOKS = (
    _book("Moby-Dick", "Herman Melville", "sea ships whales obsession"),
    _book("Twenty Thousand Leagues Under the Seas", "Jules Verne", "sea ships submarines science"),
    _book("Treasure Island", "Robert Louis Stevenson", "sea ships pirates islands"),
    _book("Frankenstein", "Mary Shelley", "science monsters ice"),
    _book("The Time Machine", "H. G. Wells", "science time travel future"),
    _book("Pride and Prejudice", "Jane Austen", "love marriage families"),
    _book("Jane Eyre", "Charlotte Brontë", "love houses secrets"),
    _book("Middlemarch", "George Eliot", "love marriage towns politics"),
    _book("Dracula", "Bram Stoker", "monsters travel letters"),
    _book("Walden", "Henry David Thoreau", "nature solitude lakes"),
)


def books_about(words: str) -> list[Book]:
    """Return the books that the most of the words fit: their subjects, author or title."""
    wanted = _words(words)
    hits = {book: len(wanted & (book.about | _words(f"{book.title} {book.author}")))
            for book in BOOKS}  # fmt: skip
    most = max(hits.values())
    return [book for book, hit in hits.items() if hit == most] if most else []


def find_book(title: str) -> Book | None:
    """Return the book of that title, however it is spelt, or None."""
    wanted = _words(title)
    return next((book for book in BOOKS if wanted and wanted == _words(book.title)), None)


def _words(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"\w+", text.lower())) - {"a", "an", "the", "and", "of", "by"}
