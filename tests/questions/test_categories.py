"""Labels that see the question: hard cases, most of them of a real chat model on TriviaQA."""

import pytest

from ghosttrack.questions.categories import categorise
from ghosttrack.questions.labels import is_match
from ghosttrack.questions.sets import Question

CURIE = "In which country was Marie Curie born? Poland, Austria or Switzerland?"
BAND = "Which group backed Bob Dylan on tour in 1966?"
WHICH_BAND = "Which band backed Bob Dylan on tour in 1966?"
KEY = "In which key is Grieg's piano concerto?"
ALVIN = "Who was the man behind The Chipmunks?"
GUETTA = "What is the nickname of Thierry Guetta, the street artist?"
HAZE = "Which title character was named Dolores Haze?"
COLOUR = "What is the heraldic name for the colour green?"
HAMLET = "Who wrote Hamlet?"
FLYTRAP = "Which plant is also known as Dionaea muscipula?"
DALTON = "In medicine, daltonism (or deuteranopia) is better known by what name?"
CASES = [
    # An alias that stands in the question proves nothing.
    (HAZE, "The character in the song is not named Dolores Haze.", "Lolita|Dolores Haze", "wrong"),
    (HAZE, "Dolores Haze", "Lolita|Dolores Haze", "echo"),
    (HAZE, "Lolita, whose real name is Dolores Haze", "Lolita|Dolores Haze", "correct"),
    (GUETTA, 'His nickname is "Banksy".', "Mr. Brainwash|Thierry Guetta", "wrong"),
    (GUETTA, "Thierry Guetta", "Mr. Brainwash|Thierry Guetta", "echo"),
    (GUETTA, "Mr Brainwash", "Mr. Brainwash|Thierry Guetta", "correct"),
    ("Which shrub is called ligustrum?", "*Ligustrum*", "Privet|Ligustrum", "echo"),
    ("Which shrub is called ligustrum?", "It is a kind of holly.", "Privet|Ligustrum", "wrong"),
    (COLOUR, "It is **chartreuse**, a yellow-green.", "Vert|Green (heraldry)", "wrong"),
    (COLOUR, "The heraldic name is vert.", "Vert|Green (heraldry)", "correct"),
    (FLYTRAP, "The plant Dionaea muscipula", "Venus flytrap|Dionaea (plant)", "echo"),
    (FLYTRAP, "The Venus fly-trap", "Venus flytrap|Dionaea (plant)", "correct"),
    (DALTON, "It is better known as deuteranopia.", "Colour blindness|Deuteranopia", "echo"),
    (DALTON, "It is called night blindness.", "Colour blindness|Daltonism", "wrong"),
    ("What does Hadj signify?", "Hadj is a pilgrimage.", "Pilgrimage to Mecca|Hadj", "wrong"),
    ("How is 1994 written in Roman numerals?", "1994 is XCXCIV.", "MCMXCIV|1994", "wrong"),
    ("How is 1994 written in Roman numerals?", "MCMXCIV", "MCMXCIV|1994", "correct"),
    ("Who was born Terry Gene Bollea?", "Dwayne Johnson", "Hulk Hogan|Gene Bollea", "wrong"),
    ("who sang the weight by the band", "The Band", "The Band", "echo"),
    ("Who was the Georgia Peach?", "The Georgia Peach", "Ty Cobb|The Georgia Peach", "echo"),
    ("What is the Milky Way?", "The Milky Way is old.", "A galaxy|The Milky Way", "wrong"),
    ("Which earwig is a fishmoth?", "The fishmoth", "Silverfish|Fish moth", "echo"),
    # Where the question leaves the choice, its words are answers.
    (CURIE, "Marie Curie was born in Poland.", "Poland", "correct"),
    (CURIE, "Switzerland", "Poland", "wrong"),
    (CURIE, "Marie Curie was born in Austria.", "Poland", "wrong"),
    ("Who was born first, Ann Low or Ed Poe?", "Ed Poe was.", "Ed Poe", "correct"),
    ("Who was born first, Ann Low or Ed Poe?", "Ann Low", "Ed Poe", "wrong"),
    ("Which is larger, Mars or the Moon?", "Mars is larger.", "Mars", "correct"),
    ("What year was it: 1959, 1963 or 1967?", "It was 1963.", "1963", "correct"),
    ("What colour is the door? White or brown?", "The door is brown.", "White", "wrong"),
    # Articles: a missing one is forgiven, another one is not.
    ("Who sang Help!?", "Beatles", "The Beatles", "correct"),
    ("Who sang Help!?", "the Beatles", "Beatles", "correct"),
    (BAND, "It was a band from Canada.", "The Band", "wrong"),
    (BAND, "The Band", "The Band", "correct"),
    (BAND, "Band", "The Band", "correct"),
    (WHICH_BAND, "The Band", "The Band|The Hawks", "correct"),
    (WHICH_BAND, "the band Kiss", "The Band|The Hawks", "wrong"),
    (WHICH_BAND, "The Hawks", "The Band|The Hawks", "correct"),
    ("Who sang My Generation?", "The Who", "The Who", "correct"),
    (KEY, "It is in E minor.", "A minor", "wrong"),
    (KEY, "It is in A minor.", "A minor", "correct"),
    (KEY, "A flat", "A minor", "wrong"),
    ("Which TV show was Mr. T in?", "The A-Team", "A-Team", "correct"),
    ("Which TV show was Mr. T in?", "The B-Team", "The A-Team", "wrong"),
    ("Which Kubrick film is of 1971?", "Clockwork Orange", "A Clockwork Orange", "correct"),
    ("What does a fish breathe with?", "It has the gill.", "a gill", "correct"),
    ("Who sang Take On Me?", "A-ha", "a-ha", "correct"),
    # Brackets at the end of a reference.
    ("Which film won in 1989?", "Rain Man", "Rain Man (1988)", "correct"),
    ("Which film won in 1989?", "1988", "Rain Man (1988)", "wrong"),
    ("Who sang Kiss You All Over?", "A hit by Exile", "Exile (American band)", "correct"),
    ("Which letter is Greek?", "the letter", "The (letter)", "echo"),
    ("Who sang it?", "Satisfaction", "(I Can't Get No) Satisfaction", "wrong"),
    # No answer: nothing said, or a refusal.
    (HAMLET, "", "Shakespeare", "no_answer"),
    (HAMLET, "...", "Shakespeare", "no_answer"),
    (HAMLET, "The answer is:", "Shakespeare", "no_answer"),
    (HAMLET, "Sure, the correct answer is", "Shakespeare", "no_answer"),
    (HAMLET, "Answer:", "Shakespeare", "no_answer"),
    (HAMLET, "It was", "Shakespeare", "no_answer"),
    (HAMLET, "I don’t know.", "Shakespeare", "no_answer"),
    (HAMLET, "I do not know who wrote Hamlet.", "Shakespeare", "no_answer"),
    (HAMLET, "I'm sorry, but", "Shakespeare", "no_answer"),
    (HAMLET, "I am sorry, I can't help with that.", "Shakespeare", "no_answer"),
    (HAMLET, "Sorry!", "Shakespeare", "no_answer"),
    (HAMLET, "As an AI language model, I have no access to books.", "Shakespeare", "no_answer"),
    (HAMLET, "The context does not mention the author.", "Shakespeare", "no_answer"),
    (HAMLET, "The author is not publicly known.", "Shakespeare", "no_answer"),
    (HAMLET, "Unknown", "Shakespeare", "no_answer"),
    (HAMLET, "I'm not sure, but I think it was Marlowe.", "Shakespeare", "wrong"),
    (HAMLET, "I'm not sure, maybe Shakespeare.", "Shakespeare", "correct"),
    ("Which album is of 1979?", "Unknown Pleasures", "London Calling", "wrong"),
    ("Which song was number 1?", "Sorry Seems To Be the Hardest Word", "Sacrifice", "wrong"),
    ("What can no penguin do?", "Penguins cannot know fear.", "Fly", "wrong"),
    # Echoes: the subject, a span of the question, or its words again.
    (HAMLET, "Hamlet", "Shakespeare", "echo"),
    (HAMLET, "The answer is Hamlet", "Shakespeare", "echo"),
    (HAMLET, "Hamlet was wrote by", "Shakespeare", "echo"),
    (ALVIN, "The Chipmunks", "David Seville", "echo"),
    (ALVIN, "The man behind The Chipmunks was", "David Seville", "echo"),
    (ALVIN, "The Chipmunks were created by Walt Disney.", "David Seville", "wrong"),
    ("How many wives had the man?", "7 wives", "none", "wrong"),
]


@pytest.mark.parametrize(("asked", "said", "references", "category"), CASES)
def test_a_label_sees_what_was_asked(asked: str, said: str, references: str, category: str):
    right = tuple(references.split("|"))
    head = f"Q: {ALVIN}\nA: {right[0]}\n"  # of a few-shot prompt; it is not the question
    known = Question("q", f"{head}Q: {asked}\nA:", right, "g", asked=asked)
    assert categorise(known, said).category == category
    assert is_match(said, right, asked) == (category == "correct")


def test_a_subject_that_stands_not_in_the_question_is_an_echo_too():
    question = Question("q", "Who wrote it?", ("Poe",), "g", subject="The Raven")
    assert categorise(question, "The Raven").category == "echo"


@pytest.mark.parametrize(
    ("said", "category", "other"),
    [
        ("Lolita", "correct", "correct"),
        ("The song is not about Dolores Haze.", "wrong", "correct"),
        ("Dolores Haze", "echo", "correct"),
        ("The book does not mention Lolita.", "correct", "no_answer"),
        ("Humbert", "wrong", "wrong"),
    ],
)
def test_a_doubtful_label_has_another_beside_it(said: str, category: str, other: str):
    question = Question("q", HAZE, ("Lolita", "Dolores Haze"), "g")
    assert categorise(question, said) == (category, other)
