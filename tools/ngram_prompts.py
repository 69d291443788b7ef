"""Prompts written for training the n-gram: kinds of request crossed with subjects.

None is taken from the packaged sample, on which the n-gram is judged.
"""
# ruff: noqa: E501  tables read better unwrapped

from __future__ import annotations

_SUBJECTS = (
    "the water cycle", "photosynthesis", "black holes", "the French Revolution", "volcanoes",
    "inflation", "supply and demand", "the immune system", "DNA replication", "plate tectonics",
    "the Roman Empire", "climate change", "renewable energy", "machine learning", "encryption",
    "the human heart", "sleep", "the moon", "evolution", "democracy", "the printing press",
    "antibiotics", "electric cars", "the stock market", "bees", "coral reefs", "the Silk Road",
    "gravity", "atoms", "chemical bonds", "probability", "prime numbers", "the Pythagorean theorem",
    "calculus", "linear regression", "the Cold War", "the Renaissance", "jazz music", "chess",
    "the Olympic Games", "public speaking", "time management", "healthy eating", "meditation",
    "remote work", "social media", "online privacy", "space travel", "robots", "the ocean",
    "rain forests", "deserts", "the Great Wall of China", "ancient Egypt", "Shakespeare",
    "the violin", "photography", "gardening", "baking bread", "coffee", "tea", "cheese",
    "running a marathon", "yoga", "dogs", "cats", "birds", "dinosaurs", "earthquakes", "hurricanes",
    "trains", "airplanes", "bridges", "skyscrapers", "the internet", "databases", "operating systems",
    "compilers", "hash tables", "sorting algorithms", "recursion", "graph theory", "version control",
    "unit testing", "web servers", "cloud computing", "quantum computing", "game theory",
    "ethics", "Stoicism", "Socrates", "Buddhism", "constitutional law", "contracts", "taxes",
    "insurance", "mortgages", "vaccines", "diabetes", "the brain", "memory", "dreams", "emotions",
)  # fmt: skip

_ABOUT_SUBJECT = (
    "Explain {} to a ten-year-old.",
    "What is the history of {}?",
    "Write a short story about {}.",
    "Write a poem about {}.",
    "List five interesting facts about {}.",
    "What are the advantages and disadvantages of {}?",
    "Write an essay of three paragraphs on {}.",
    "Summarise what everyone should know about {}.",
    "How does {} affect everyday life? Give three examples.",
    "Write a dialogue between a teacher and a student about {}.",
    "What are common misunderstandings about {}?",
    "Write an email to a colleague that recommends a book about {}.",
    "Draft a blog post about {} with a catchy title.",
    "Give me step by step advice on how to learn about {}.",
    "who invented {}",
    "Compare {} with something similar and explain the differences.",
)

_PLACES = (
    "Paris", "Berlin", "Tokyo", "Seattle", "Nairobi", "Lima", "Sydney", "Toronto", "Mumbai", "Oslo",
    "Lisbon", "Chicago", "Dublin", "Cairo", "Seoul", "Denver",
)  # fmt: skip

_ABOUT_PLACE = (
    "What will the weather be like in {} tomorrow?",
    "Book a hotel in {} for two nights from the 4th of May, please.",
    "I need a taxi to the airport in {} at 7 in the morning.",
    "Find me a table for four at an Italian restaurant in {} tonight.",
    "What time is it in {} right now?",
    "Plan a weekend in {} for a family with small children.",
    "Find a train from {} to the coast that leaves before 9 am.",
    "Which events can I visit in {} this Saturday?",
    "Can you rent a car for me in {} for three days?",
    "Write a travel guide to {} in four paragraphs.",
    "Could you get me the temperature and humidity in {} for the next 5 days?",
    "how much is a bus ticket in {}",
)

_COMMANDS = (
    "Could you play some {} music?", "Set an alarm called {} for 6:30.", "Add {} to my list.",
    "Search the web for {} and show the first 5 results.", "Delete the file called {}.txt",
    "Send a message to Maria about {}.", "What does the word {} mean?", "Translate {} into Spanish.",
    "Show me all users whose name is {}.", "Order two {} and a large pizza.",
    "Call the API at http://api.example.com/{} with a GET request and key 'abc123'.",
    "Give me the report for {} from 10.0.0.7, no more than 8 rows.",
    "Create a ticket about {} with high priority.", "Is {} a good idea?", "where can I buy {}",
    "Turn {} on at 8 pm.",
)  # fmt: skip
_THINGS = ("jazz", "apples", "budget", "garden", "status", "lamps", "alpha", "coffee")

_FUNCTIONS = (
    ("count_vowels(text: str) -> int", "Return how many vowels are in text.", "'banana'", "3"),
    ("reverse_words(s: str) -> str", "Reverse the order of the words in s.", "'a b c'", "'c b a'"),
    ("is_leap(year: int) -> bool", "Return True if year is a leap year.", "2000", "True"),
    ("running_max(numbers: list) -> list", "Return the largest so far.", "[1, 3, 2]", "[1, 3, 3]"),
    ("gcd(a: int, b: int) -> int", "Return the greatest common divisor of a and b.", "12, 18", "6"),
    ("flatten(items: list) -> list", "Flatten a list of lists by one level.", "[[1], [2]]", "[1, 2]"),
    ("second_largest(lst)", "Return the second largest element, or None.", "[4, 9, 7]", "7"),
    ("is_prime(n: int) -> bool", "Return whether n is a prime number.", "13", "True"),
    ("digits_sum(n)", "Return the sum of the digits of n.", "305", "8"),
    ("caesar(text, shift)", "Shift every letter of text by shift places.", "'abc', 1", "'bcd'"),
    ("word_lengths(words)", "Map every word to its length.", "['to', 'be']", "{'to': 2, 'be': 2}"),
    ("remove_duplicates(lst)", "Remove duplicates and keep the order.", "[1, 1, 2]", "[1, 2]"),
    ("fib(n: int) -> int", "Return the n-th Fibonacci number.", "7", "13"),
    ("is_anagram(a: str, b: str)", "Return True if a and b use equal letters.", "'tea', 'eat'", "True"),
    ("longest(strings)", "Return the longest string, or None if the list is empty.", "['a', 'bb']", "'bb'"),
    ("even_squares(n)", "Return the squares of the even numbers below n.", "5", "[0, 4, 16]"),
    ("merge(a: list, b: list) -> list", "Merge two sorted lists.", "[1, 4], [2]", "[1, 2, 4]"),
    ("to_binary(n: int) -> str", "Convert n to a binary string.", "5", "'101'"),
    ("median(l: list)", "Return the median of the elements of l.", "[3, 1, 2]", "2"),
    ("count_words(text)", "Return a dictionary of word counts.", "'a a b'", "{'a': 2, 'b': 1}"),
    ("rotate(lst, k)", "Rotate lst by k places to the right.", "[1, 2, 3], 1", "[3, 1, 2]"),
    ("balanced(brackets: str) -> bool", "Check that brackets are balanced.", "'(())'", "True"),
    ("factorial(n)", "Return n factorial.", "5", "120"),
    ("common(l1, l2)", "Return the sorted common elements of two lists.", "[1, 2], [2]", "[2]"),
)  # fmt: skip

_CHOICES = (
    ("Which gas do plants take in for photosynthesis?", "Oxygen", "Carbon dioxide", "Neon", "Argon"),
    ("What is the derivative of x^3?", "3x^2", "x^2", "3x", "x^4/4"),
    ("A fair coin is tossed twice. What is the probability of two heads?", "1/2", "1/3", "1/4", "1/8"),
    ("Which of the following is an example of a public good?", "A car", "Clean air", "A loaf", "A book"),
    ("In which century did the Black Death reach Europe?", "12th", "13th", "14th", "16th"),
    ("Which organ produces insulin?", "The liver", "The pancreas", "The spleen", "The kidney"),
    ("What is the time complexity of binary search?", "O(1)", "O(log n)", "O(n)", "O(n^2)"),
    ("Statement 1 | Every group is abelian. Statement 2 | Every field is a ring.", "True, True",
     "False, False", "True, False", "False, True"),
    ("A force of 10 N moves a box by 3 m. How much work is done?", "3.3 J", "13 J", "30 J", "300 J"),
    ("Which planet has the most moons?", "Earth", "Mars", "Saturn", "Venus"),
    ("Which of these is a strong acid?", "Acetic acid", "Hydrochloric acid", "Water", "Ammonia"),
    ("What does a demand curve usually do?", "Slope down", "Slope up", "Stay flat", "Circle"),
    ("Which amendment protects freedom of speech?", "First", "Second", "Fifth", "Tenth"),
    ("What is the order of the cyclic group Z_12?", "3", "6", "12", "24"),
    ("Kant held that actions are right if they follow", "utility", "duty", "custom", "desire"),
    ("Which cells carry oxygen in the blood?", "Red cells", "White cells", "Platelets", "Neurons"),
    ("Which psychologist is known for classical conditioning?", "Pavlov", "Freud", "Jung", "Rogers"),
    ("If the price level rises and wages stay, real wages", "rise", "fall", "stay", "double"),
)  # fmt: skip

_SUMS = (
    "Anna buys {} pens at ${} each and pays with a {} dollar note. How much change does she get?",
    "A train travels {} km in {} hours. How far does it go in {} hours at the same speed?",
    "What is the sum of {}, {} and {}?",
    "A rectangle is {} cm by {} cm. A square has a side of {} cm. Which area is larger?",
    "There are {} red, {} blue and {} green balls in a bag. What is the chance to draw a red one?",
)


def prompts() -> list[str]:
    """All prompts, in an order that mixes the kinds evenly; the same list on every call."""
    kinds = [
        [form.format(s) for i, s in enumerate(_SUBJECTS) for form in _every(_ABOUT_SUBJECT, i, 3)],
        [form.format(place) for place in _PLACES for form in _ABOUT_PLACE],
        [form.format(thing) for thing in _THINGS for form in _COMMANDS],
        [_function(*parts, style) for style in range(4) for parts in _FUNCTIONS],
        [_choice(turn, *parts) for turn in range(4) for parts in _CHOICES],
        [form.format(3 + n, 2 + n % 7, 20 + 3 * n) for n in range(12) for form in _SUMS],
    ]
    placed = [((i + 0.5) / len(kind), text) for kind in kinds for i, text in enumerate(kind)]
    return [text for _, text in sorted(placed)]


def about_subjects() -> list[str]:
    """Every pair of subject and form, also those that `prompts` leaves out."""
    return [form.format(subject) for subject in _SUBJECTS for form in _ABOUT_SUBJECT]


def _every(forms: tuple[str, ...], start: int, count: int) -> list[str]:
    return [forms[(5 * start + 3 * step) % len(forms)] for step in range(count)]


def _function(signature: str, says: str, given: str, result: str, style: int) -> str:
    name = signature.split("(")[0]
    example = f"    >>> {name}({given})\n    {result}\n" if style % 2 else ""
    code = f'```python\n\ndef {signature}:\n    """ {says}\n{example}    """\n```'
    asks = ("Complete the following Python function.", "Please finish this function.")
    if style == 3:
        return (
            f"Write a Python function {name} that does this: {says} For {given} it gives {result}."
        )
    return f"{asks[style // 2]}\n\n{code}"


def _choice(turn: int, question: str, *options: str) -> str:
    turned = options[turn:] + options[:turn]
    listed = " ".join(f"({letter}) {text}" for letter, text in zip("ABCD", turned, strict=True))
    return f"{question}\n{listed}"
