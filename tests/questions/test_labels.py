"""Labels: hard cases of alias matching, and the categories of a world."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ghosttrack.questions.categories import RIGHT, categorise
from ghosttrack.questions.labels import is_match, words
from ghosttrack.questions.sets import Question

MATCHES = [
    pytest.param("The Beatles", "Beatles", id="article in the answer"),
    pytest.param("It was sung by beatles.", "The Beatles", id="article in the reference"),
    pytest.param("Sao Paulo", "São Paulo", id="diacritics"),
    pytest.param("são Paulo", "Sa\u0303o Paulo", id="decomposed"),
    pytest.param("Lech Walesa", "Lech Wałęsa", id="letters without decomposition"),
    pytest.param("Dvorak, the composer", "DVOŘÁK", id="case"),
    pytest.param("in 1,200 houses", "1200", id="thousands separator"),
    pytest.param("10.0", "10", id="decimal zero"),
    pytest.param("twenty-one", "21", id="number in words"),
    pytest.param("about two hundred thirty thousand", "230,000", id="long number in words"),
    pytest.param("10%", "10 percent", id="percent sign"),
    pytest.param("from 1939-1945", "1939", id="start of a range"),
    pytest.param("from 1939-1945", "1945", id="the dash of a range is no minus"),
    pytest.param("−5 degrees", "-5", id="typographic minus"),
    pytest.param("J.R.R. Tolkien", "J. R. R. Tolkien", id="initials"),
    pytest.param("A. A. Milne", "A.A. Milne", id="initials that look like articles"),
    pytest.param("in the U.S.A.", "USA", id="abbreviation"),
    pytest.param("Shakespeare’s", "Shakespeare", id="possessive"),
    pytest.param("OBrien", "O'Brien", id="apostrophe"),
    pytest.param("Vitamin A is it", "vitamin A", id="letter that is no article"),
    pytest.param("rock-and-roll", "Rock & Roll", id="ampersand and hyphens"),
    pytest.param("首都は東京です", "東京", id="script without spaces"),
    pytest.param("Łódź, Poland", "Lodz", id="both kinds of strokes"),
    pytest.param("!!!", "!!!", id="a name of signs"),
    pytest.param("J K Rowling", "J. K. Rowling", id="initials without stops"),
    pytest.param("JK Rowling", "J. K. Rowling", id="initials run together"),
    pytest.param("Spider-Man", "Spiderman", id="hyphen or none"),
    pytest.param("an email", "e-mail", id="one word or two"),
    pytest.param("ACDC", "AC/DC", id="slash or none"),
    pytest.param("10 km away", "10km", id="unit with or without a space"),
    pytest.param("St. Louis", "Saint Louis", id="saint"),
    pytest.param("Mt. Everest", "Mount Everest", id="mount"),
    pytest.param("in World War 2", "World War II", id="Roman numeral"),
    pytest.param("Louis the 14th, XIV", "Louis the Fourteenth", id="ordinal in words"),
    pytest.param("some 5 million people", "5,000,000", id="digits and a word of scale"),
    pytest.param("3.5 million", "3,500,000", id="decimal and a word of scale"),
    pytest.param("Orwell's 1984", "Nineteen Eighty-Four", id="year in words"),
    pytest.param("in the 1990s", "1990's", id="decade"),
    pytest.param("from the U.S.", "US", id="acronym in capitals"),
    pytest.param("it was THE WHO", "The WHO", id="acronym that is a pronoun"),
    pytest.param("us", "US", id="acronym alone"),
    pytest.param("서울입니다", "서울", id="particle without a space"),
    pytest.param("भारत की राजधानी दिल्ली है", "दिल्ली", id="vowels that are marks"),
    pytest.param("МОСКВА", "Москва", id="Cyrillic"),
    pytest.param("اسمها القاهرة", "القاهرة", id="Arabic"),
    pytest.param("It is not Paris", "Paris", id="a denial is not understood"),
]
MISSES = [
    pytest.param("Titian", "it", id="inside a word"),
    pytest.param("100", "10", id="prefix of a number"),
    pytest.param("1910", "10", id="suffix of a number"),
    pytest.param("10.5", "10", id="whole part of a decimal"),
    pytest.param("3.5km", "3", id="whole part before a unit"),
    pytest.param("1,000", "1", id="thousands are not one"),
    pytest.param("the 10th", "10", id="ordinal"),
    pytest.param("5", "-5", id="sign"),
    pytest.param("vitamin C", "Vitamin A", id="last letter counts"),
    pytest.param("the beatles", "The The", id="articles alone"),
    pytest.param("York New", "New York", id="order"),
    pytest.param("New old York", "New York", id="side by side"),
    pytest.param("", "Paris", id="empty"),
    pytest.param("...", "Paris", id="punctuation only"),
    pytest.param("", "", id="nothing is no answer"),
    pytest.param("Barack", "Barack Obama", id="half of the name"),
    pytest.param("30", "3", id="first digit"),
    pytest.param("3 0", "30", id="two numbers side by side"),
    pytest.param("Louis XV", "Louis XIV", id="another Roman numeral"),
    pytest.param("Malcolm X", "Malcolm 10", id="a letter is no Roman numeral"),
    pytest.param("the 1990s", "1990", id="decade is no year"),
    pytest.param("no one knows", "1", id="pronoun is no number"),
    pytest.param("one of them", "1", id="pronoun before of"),
    pytest.param("Let us go", "U.S.", id="pronoun is no acronym"),
    pytest.param("Who knows", "The WHO", id="question word is no acronym"),
    pytest.param("C++", "C", id="C is not C++"),
    pytest.param("C#", "C", id="C is not C sharp"),
    pytest.param("दाल", "दिल", id="other vowels"),
    pytest.param("Manhattan", "man", id="beginning of a word"),
]


@pytest.mark.parametrize(("answer", "reference"), MATCHES)
def test_the_same_answer_written_otherwise_matches(answer, reference):
    assert is_match(answer, ["never", reference])


@pytest.mark.parametrize(("answer", "reference"), MISSES)
def test_another_answer_does_not_match(answer, reference):
    assert not is_match(answer, [reference])


def test_exact_comparison_allows_articles_but_no_other_word():
    assert is_match("The North Hill.", ["north hill"], exact=True)
    assert not is_match("north hill bay", ["north hill"], exact=True)
    assert not is_match("north", ["north hill"], exact=True)


@given(st.text(max_size=40))
def test_words_of_words_are_the_words(text):
    assert words(" ".join(words(text))) == words(text)


@given(st.text(max_size=30), st.text(max_size=30), st.text(min_size=1, max_size=30))
def test_a_reference_between_other_words_is_found(before, after, reference):
    said = f"{before} . {reference} . {after}"
    plain = [word for word in words(reference) if word.isalpha() and word.isascii()]
    if plain and plain == reference.split():
        assert is_match(said, [reference])


@given(st.integers(1, 9999), st.integers(1, 9999), st.sampled_from(["thousand", "million"]))
def test_words_of_scale_multiply(said, known, scale):
    value = known * {"thousand": 1000, "million": 10**6}[scale]
    assert is_match(f"about {said} {scale} of them", [f"{value:,}"]) == (said == known)


@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_numbers_match_only_themselves(said, known):
    assert is_match(f"It is {said:,}.", [str(known)]) == (said == known)


@pytest.mark.parametrize(
    ("status", "answer", "category"),
    [
        ("known", "north hill", "correct"),
        ("known", "north", "wrong_known"),
        ("unknown_attribute", "north hill", "lucky"),
        ("unknown_attribute", "bay", "unknown_attribute"),
        ("unknown_entity", "North Hill", "lucky"),
        ("unknown_entity", "", "unknown_entity"),
        ("", "It is north hill", "correct"),
        ("", "bay", "wrong"),
        ("", "", "no_answer"),
    ],
)
def test_a_category_tells_why_an_answer_is_right_or_wrong(status, answer, category):
    question = Question(id="q", prompt="where ?", answers=("north hill",), group="g", status=status)
    assert categorise(question, answer).category == category
    assert (category in RIGHT) == (answer in {"north hill", "North Hill", "It is north hill"})
