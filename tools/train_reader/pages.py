"""Random pages of text with a question and its answer, drawn on the CPU."""

import glob
import io
import os
import random

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from settings import COLORS, END_OF_TEXT, IM_END, ODD, PREFIX, SIZES, prompt_tail


def luminance(color):
    return 0.3 * color[0] + 0.59 * color[1] + 0.11 * color[2]


class Pages:
    """Draws random pages. `page` decides everything about one; `mask` and `image` render it."""

    def __init__(self, assets, seed, unseen=False):
        import matplotlib

        self.words = open(f"{assets}/words.txt").read().split()
        fonts_of_matplotlib = os.path.join(os.path.dirname(matplotlib.__file__), "mpl-data/fonts/ttf/DejaVu*.ttf")
        dejavu = glob.glob(fonts_of_matplotlib)
        fonts = sorted(glob.glob(f"{assets}/*.ttf")) + sorted(f for f in dejavu if "Display" not in f)
        self.fonts = [f for f in fonts if ("FreeSerif" in f) == unseen]  # FreeSerif is never trained on
        self.random = random.Random(seed)
        self.cache = {}

    def font(self, path, size):
        if (path, size) not in self.cache:
            self.cache[path, size] = ImageFont.truetype(path, size, layout_engine=ImageFont.Layout.BASIC)
        return self.cache[path, size]

    def token(self, t):
        """One word of a page of difficulty t.

        A short lower-case word at 0; words, numbers, dates, times and odd strings at 1.
        """
        r = self.random
        if r.random() >= t:
            while True:
                word = r.choice(self.words)
                if len(word) <= 5 + 10 * t:
                    return word
        kind = r.random()
        if kind < 0.62:
            word = r.choice(self.words)
            case = r.random()
            return word if case < 0.5 else word.capitalize() if case < 0.85 else word.upper()
        if kind < 0.72:
            return str(r.randint(0, 10 ** r.randint(1, 6)))
        if kind < 0.80:
            return f"{r.choice(['$', '', ''])}{r.randint(0, 999)}.{r.randint(0, 99):02d}"
        if kind < 0.85:
            return f"{r.randint(1, 28):02d}/{r.randint(1, 12):02d}/{r.randint(1990, 2030)}"
        if kind < 0.90:
            return f"{r.randint(0, 23):02d}:{r.randint(0, 59):02d}"
        return "".join(r.choice(ODD) for _ in range(r.randint(2, 8)))

    def colors(self, t, plain):
        """Background, the name of the text's colour, and the colour itself, well apart from the background."""
        r = self.random
        if not plain and r.random() < 0.5 * t:
            bg = tuple(r.randint(0, 255) for _ in range(3))
        else:
            base = r.choice([250, 235, 20])
            bg = tuple(min(255, base + r.randint(-8, 8)) for _ in range(3))
        names = [
            name
            for name, color in COLORS.items()
            if abs(luminance(color) - luminance(bg)) > 60 and sum(abs(a - b) for a, b in zip(color, bg)) > 150
        ]
        name = r.choice(names or ["white" if luminance(bg) < 128 else "black"])
        fg = tuple(min(255, max(0, value + r.randint(-12, 12))) for value in COLORS[name])
        return bg, name, fg

    def page(self, hw, t=1.0, plain=0):
        """One page of difficulty t (1: the whole distribution).

        plain=n: n lines at most, to be read, on a plain ground, undamaged.
        """
        r = self.random
        height, width = hw
        bg, color, fg = self.colors(t, plain)
        path = r.choice(self.fonts)
        size = r.randint(round(26 - 11 * t), min(40, height // 2))
        font = self.font(path, size)
        line_height = int(size * r.uniform(1.15, 1.4))

        most = min(max(1, (height - 8) // line_height), plain or 5)
        lines = []
        for _ in range(r.randint(1, 1 + round((most - 1) * t))):
            words = []
            for _ in range(r.randint(1, 1 + round(3 * t))):
                word = self.token(t)
                if font.getlength(" ".join(words + [word])) <= width - 12:
                    words.append(word)
            if words:
                lines.append(" ".join(words))
        if not lines:
            size, line_height = 15, 20
            font = self.font(path, size)
            lines = [self.token(t)[:8]]

        widths = [font.getlength(line) for line in lines]
        widest = max(widths)
        x = r.uniform(4, max(4.1, width - widest - 4))
        y = r.uniform(2, max(2.1, height - line_height * len(lines) - 2))
        center = r.random() < 0.3
        at = [(x + (widest - w) / 2 * center, y + i * line_height) for i, w in enumerate(widths)]

        # Degrees, blur radius, noise deviation, JPEG quality; 0: not at all.
        damage = [r.uniform(-2.5, 2.5), r.uniform(0.2, 0.9), r.uniform(2, 10), r.randint(40, 90)]
        damage = [d if not plain and r.random() < 0.3 * t else 0 for d in damage]

        kind = 0 if plain else r.random()
        line = r.randrange(len(lines))
        if kind < 1 - 0.30 * t:
            question, answer = "Read the text.", "\n".join(lines)
        elif kind < 1 - 0.20 * t:
            question, answer = f"Read line {line + 1}.", lines[line]
        elif kind < 1 - 0.13 * t:
            question, answer = "What color is the text?", color
        elif kind < 1 - 0.06 * t:
            question, answer = "How many words are there?", str(sum(len(text.split()) for text in lines))
        else:
            question, answer = "How many lines are there?", str(len(lines))
        return dict(
            hw=hw,
            font=(path, size),
            lines=lines,
            at=at,
            fg=fg,
            bg=bg,
            color=color,
            aug=damage,
            question=question,
            answer=answer,
        )

    def draw(self, page, image, fill):
        draw = ImageDraw.Draw(image)
        font = self.font(*page["font"])
        for line, at in zip(page["lines"], page["at"]):
            draw.text(at, line, font=font, fill=fill)
        return image

    def mask(self, page):
        """How much each pixel is covered by text, (height, width) uint8."""
        return np.asarray(self.draw(page, Image.new("L", page["hw"][::-1]), 255))

    def image(self, page):
        """The finished page, (height, width, 3) uint8, all on the CPU: what evaluation and the references use."""
        angle, blur, noise, quality = page["aug"]
        image = self.draw(page, Image.new("RGB", page["hw"][::-1], page["bg"]), page["fg"])
        if angle:
            image = image.rotate(angle, resample=Image.BILINEAR, fillcolor=page["bg"])
        if blur:
            image = image.filter(ImageFilter.GaussianBlur(blur))
        if quality:
            coded = io.BytesIO()
            image.save(coded, "JPEG", quality=quality)
            image = Image.open(coded)
        pixels = np.array(image, dtype=np.uint8)
        if not noise:
            return pixels
        generator = np.random.default_rng(self.random.getrandbits(32))
        return np.clip(pixels + generator.normal(0, noise, pixels.shape), 0, 255).astype(np.uint8)


def collate(pages, draw, kind):
    """A batch of pages of one size, as tensors.

    Every row is PREFIX, the image's tokens, then its `tail`; the loss is on the tail's answer. `where` are the flat
    positions whose next token is one of the answer's, `target` those tokens.
    """
    height, width = pages[0]["hw"]
    start = len(PREFIX) + (height // 32) * (width // 32)
    asked = [prompt_tail(page["question"]) for page in pages]
    answers = [list(page["answer"].encode()) + [IM_END] for page in pages]
    longest = max(len(a) + len(b) for a, b in zip(asked, answers))
    length = -(-(start + longest) // 8) * 8
    tail = np.full((len(pages), length - start), END_OF_TEXT, np.int16)
    where = []
    for i, (a, b) in enumerate(zip(asked, answers)):
        tail[i, : len(a) + len(b)] = a + b
        first = i * length + start + len(a) - 1
        where.append(np.arange(first, first + len(b)))
    batch = {
        kind: np.stack([draw(page) for page in pages]),
        "color": np.array([page["fg"] + page["bg"] for page in pages], np.uint8),
        "aug": np.array([page["aug"] for page in pages], np.float32),
        "jpeg": np.array([i for i, page in enumerate(pages) if page["aug"][3]], np.int64),
        "tail": tail.astype(np.int64),
        "where": np.concatenate(where).astype(np.int64),
        "target": np.concatenate([np.array(b, np.int64) for b in answers]),
    }
    return {name: torch.from_numpy(values) for name, values in batch.items()}


class Stream(torch.utils.data.IterableDataset):
    """Endless training batches at the difficulty that `level` (a shared number, 0 to 1) allows at the moment."""

    def __init__(self, assets, batch, level, seed):
        self.assets, self.batch, self.level, self.seed = assets, batch, level, seed

    def __iter__(self):
        pages = Pages(self.assets, self.seed * 1000 + torch.utils.data.get_worker_info().id)
        r = pages.random
        while True:
            level = self.level.value
            t = 1.0 if r.random() < level * level else level * r.random()
            hw = r.choice(SIZES[: 1 + round((len(SIZES) - 1) * t)])
            # Three batches at once, sorted by length: less padding.
            drawn = sorted(
                (pages.page(hw, t) for _ in range(3 * self.batch)),
                key=lambda page: len(page["question"]) + len(page["answer"]),
            )
            if t < 0.2:
                parts = [drawn[i::3] for i in range(3)]
            else:
                parts = [drawn[i * self.batch : (i + 1) * self.batch] for i in range(3)]
            r.shuffle(parts)
            for part in parts:
                yield collate(part, pages.mask, "mask")


class Exam(torch.utils.data.Dataset):
    """Fixed batches of finished pages for evaluation; item i is of size i (round robin)."""

    def __init__(self, assets, batches, batch, unseen, plain):
        self.assets, self.batches, self.batch, self.unseen, self.plain = assets, batches, batch, unseen, plain

    def __len__(self):
        return self.batches

    def __getitem__(self, i):
        pages = Pages(self.assets, f"exam {i} {self.unseen} {self.plain}", self.unseen)
        drawn = [pages.page(SIZES[i % len(SIZES)], 1.0, self.plain) for _ in range(self.batch)]
        questions = [page["question"] for page in drawn]
        return collate(drawn, pages.image, "image"), questions, [len(page["lines"]) for page in drawn]
