"""Nouns and the classes that each means: what WordNet knows of the thousand classes that ImageNet's classifiers tell apart.

    python vocabulary.py --wordnet /usr/share/wordnet --classes imagenet_synsets.txt

prints what the vocabulary holds. A class is a synset of WordNet 3.0 (Miller 1995; Debian's package wordnet-base), a word
means the classes of its first sense that has any: the classes below it in the tree of hypernyms ("dog": 118), or the class
that it is a kind of ("Stradivarius": violin). Where a class bears the word itself, it is meant too ("crane": a bird and a
machine). Words that are in WordNet and mean no class are kept with the nearest that do, so that a refusal can name them.
"""

import argparse
import itertools
import pathlib
import re

# WordNet's files of nouns for what can be seen: tops, animals, artefacts, bodies, signs, food, objects, people, plants,
# substances.
VISIBLE = {3, 5, 6, 8, 10, 13, 17, 18, 20, 27}

# Everyday words whose everyday meaning WordNet's tree leads past, or splits: each means what these words mean together.
TOGETHER = {
    "cow": "cattle", "bull": "cattle", "calf": "cattle", "puppy": "dog", "doggy": "dog", "cat": "domestic cat",
    "kitten": "domestic cat", "kitty": "domestic cat", "lamb": "sheep", "ewe": "sheep", "foal": "horse", "pony": "horse",
    "mare": "horse", "stallion": "horse", "piglet": "hog", "pig": "hog", "duckling": "duck", "chick": "hen",
    "chicken": "hen; cock", "monkey": "monkey; ape", "bike": "bicycle; mountain bike", "bicycle": "bicycle; mountain bike",
    "motorbike": "motorcycle; motor scooter", "motorcycle": "motorcycle; motor scooter", "airplane": "airplane; warplane",
    "aeroplane": "airplane; warplane", "plane": "airplane; warplane", "boat": "boat; sailboat; catamaran; trimaran; canoe",
    "truck": "truck; trailer truck", "lorry": "truck; trailer truck", "fire truck": "fire engine", "racing car": "racer",
    "taxi": "cab", "sneaker": "running shoe", "trainer": "running shoe", "boot": "boot; cowboy boot", "trousers": "jean",
    "jeans": "jean", "sunglasses": "sunglass; sunglasses", "handbag": "purse", "fridge": "refrigerator",
    "mobile phone": "cellphone", "cell phone": "cellphone", "smartphone": "cellphone", "mobile": "cellphone",
    "tv": "television; screen; monitor", "television": "television; screen; monitor", "tv set": "television; screen; monitor",
    "monitor": "monitor; screen; television", "computer": "laptop; desktop computer; notebook", "book": "comic book; book jacket",
    "bowl": "mixing bowl; soup bowl", "cup": "cup; coffee mug", "mug": "coffee mug; cup", "teacup": "cup", "wine glass": "goblet; red wine",
    "glass": "beer glass; goblet", "table": "table; dining table; desk", "bed": "bed; bassinet; crib; cradle; four-poster",
    "oven": "rotisserie; stove", "cooker": "stove", "sink": "washbasin", "toilet": "toilet seat", "stop sign": "street sign",
    "sign": "street sign", "sports ball": "ball", "plant": "flowerpot; daisy; yellow lady's slipper", "pot plant": "flowerpot",
    "potted plant": "flowerpot", "houseplant": "flowerpot", "house": "house; mobile home; barn",
    "food": "food; edible fruit; vegetable", "fruit": "edible fruit; fruit", 
    "lamp": "table lamp; spotlight; torch", "drink": "beverage", "hair dryer": "hand blower", "hairdryer": "hand blower",
}  # fmt: skip

# Words for people beside "person"; what kind of person is not told apart.
PEOPLE = ("people", "human", "humans", "human being", "pedestrian", "somebody", "someone", "individual", "passer-by")


class WordNet:
    """Nouns of WordNet 3.0: synsets by offset, senses by word in the order of their frequency."""

    def __init__(self, folder):
        self.words, self.above, self.file, self.named = {}, {}, {}, {}
        for line in (folder / "data.noun").read_text("latin-1").splitlines():
            if line.startswith(" "):
                continue
            fields = line.split(" | ")[0].split()
            offset, count = int(fields[0]), int(fields[3], 16)
            self.file[offset] = int(fields[1])
            self.words[offset] = [fields[4 + 2 * i].replace("_", " ") for i in range(count)]
            rest = fields[4 + 2 * count :]
            kinds = [rest[1 + 4 * i] for i in range(int(rest[0]))]
            self.named[offset] = "@i" in kinds
            self.above[offset] = [
                int(rest[2 + 4 * i]) for i, kind in enumerate(kinds) if kind in ("@", "@i")
            ]
        self.senses = {}
        for line in (folder / "index.noun").read_text("latin-1").splitlines():
            if not line.startswith(" "):
                fields = line.split()
                self.senses[fields[0].replace("_", " ")] = [int(field) for field in fields[-int(fields[2]) :]]
        self.irregular = {}
        for line in (folder / "noun.exc").read_text("latin-1").splitlines():
            plural, *singular = line.replace("_", " ").split(" ")
            if singular:
                self.irregular[plural] = singular[0]

    def ancestors(self, offset):
        """The synsets above one, the nearest first."""
        seen, line = {offset}, [offset]
        for here in line:
            for parent in self.above[here]:
                if parent not in seen:
                    seen.add(parent)
                    line.append(parent)
        return line[1:]


def is_plain(word):
    """Whether somebody may type it: small letters, digits and what joins them, three words at most."""
    return re.fullmatch(r"[a-z0-9][a-z0-9'.\- ]{0,38}", word) is not None and word.count(" ") <= 2


class Vocabulary:
    """`sets`: classes by word; `nearest`: for words that mean no class, a word that does."""

    def __init__(self, wordnet, identifiers, person):
        """`identifiers`: of the classes, such as n02084071, in the order of the classifier; `person`: the class added for people."""
        classes = {int(name[1:]): index for index, name in enumerate(identifiers)}
        self.wordnet, self.classes = wordnet, classes
        below = {}
        for offset, index in classes.items():
            for synset in [offset, *wordnet.ancestors(offset)]:
                below.setdefault(synset, set()).add(index)
        for synset in [offset for offset, words in wordnet.words.items() if words[0] == "person"]:
            below.setdefault(synset, set()).add(person)
        self.below = below
        self.sets, self.nearest = {}, {}
        unknown = []
        for word, senses in wordnet.senses.items():
            if is_plain(word):
                found = self.meaning(senses) | {
                    classes[sense] for sense in senses if sense in classes
                }
                if found:
                    self.sets[word] = frozenset(found)
                else:
                    unknown.append((word, senses))
        for word in PEOPLE:
            self.sets[word] = self.sets["person"]
        together = {
            word: frozenset().union(*(self.sets[part.strip()] for part in parts.split(";"))) for word, parts in TOGETHER.items()
        }
        self.sets.update(together)
        for plural, singular in wordnet.irregular.items():
            if singular in self.sets and is_plain(plural):
                self.sets.setdefault(plural, self.sets[singular])
        for word, senses in unknown:
            if word not in self.sets and " " not in word and (near := self.neighbour(senses)):
                self.nearest[word] = near

    def meaning(self, senses):
        """The classes of the most usual sense that can be seen: of those below it, or above it where it is a kind of a class."""
        for sense in senses:
            if sense in self.classes or self.wordnet.file[sense] in VISIBLE and not self.wordnet.named[sense]:
                if sense in self.below:
                    return self.below[sense]
                above = (synset for synset in self.wordnet.ancestors(sense) if synset in self.classes)
                return {self.classes[synset] for synset in itertools.islice(above, 1)}
        return set()

    def neighbour(self, senses):
        """The word of the nearest synset above the first visible sense that has few classes, or None."""
        for sense in senses:
            if self.wordnet.file[sense] in VISIBLE - {3, 10, 27}:
                for synset in self.wordnet.ancestors(sense):
                    if 0 < len(self.below.get(synset, ())) <= 60:
                        return next((w.lower() for w in self.wordnet.words[synset] if w.lower() in self.sets), None)
        return None

    def text(self):
        """The vocabulary as lines.

        A set of classes as ranges ("151-268,273"), a tab, its words with a semicolon between them, the best known first;
        then an empty line; then a known word, a tab, and the unknown words that lie near it.
        """
        order = {}
        for word, found in self.sets.items():
            order.setdefault(found, []).append(word)
        lines = [ranges(found) + "\t" + ";".join(words) for found, words in sorted(order.items(), key=lambda i: sorted(i[0]))]
        near = {}
        for word, other in self.nearest.items():
            near.setdefault(other, []).append(word)
        return "\n".join([*lines, "", *(f"{other}\t{';'.join(words)}" for other, words in sorted(near.items()))]) + "\n"


def ranges(numbers):
    """{3, 4, 5, 9} as "3-5,9"."""
    spans = []
    for number in sorted(numbers):
        if spans and spans[-1][1] == number - 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in spans)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wordnet", type=pathlib.Path, required=True)
    parser.add_argument("--classes", type=pathlib.Path, required=True)
    arguments = parser.parse_args()
    vocabulary = Vocabulary(WordNet(arguments.wordnet), arguments.classes.read_text().split(), 1000)
    text = vocabulary.text()
    print(f"{len(vocabulary.sets)} words, {len(vocabulary.nearest)} near ones, {len(text)} bytes")


if __name__ == "__main__":
    main()
