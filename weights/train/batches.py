"""Training examples drawn as whole batches on the device that trains: what data.py and prompts.py do one by one on a processor.

All pictures lie in the device's memory. Framing, pasted objects, changes of colour, the choice of instances and their prompts
are tensor operations over a batch, so no other process has to keep up with a fast device, and nothing waits for a result.
Left out is the compression noise alone; a picture's inmost point is found to within a cell of four pixels.
"""

import dataclasses

import numpy as np
import torch
import torch.nn.functional as F

import prompts
from data import PADDING, SETS, inventory

# Areas in `prompts.SMALLEST` and below are of pixels of the frame; those of donors are of a stored picture.
DONOR = 90

# More examples are drawn than asked for, as some show no instance: one more for as many.
SPARE = 16


@dataclasses.dataclass(frozen=True)
class Donor:
    """Instances (label, left, top, right, bottom, area) of a picture that may be cut out, of its parts and of its wholes."""

    parts: np.ndarray
    wholes: np.ndarray


def donor(row, instances):
    """What may be cut out of a picture of an index row with these instances."""
    instances = np.array(instances, np.int64).reshape(-1, 6)
    parts = instances[(instances[:, 5] >= DONOR) & ~np.isin(instances[:, 0], row["stuff"])]
    if row["set"] != "ccp_clothing" or not len(instances):
        return Donor(parts, parts)
    low, high = instances[:, 1:3].min(axis=0), instances[:, 3:5].max(axis=0)
    return Donor(parts, np.array([[1, *low, *high, instances[:, 5].sum()]]))


class Pictures:
    """Labelled pictures in the memory of a device: images (N, L, L, 3) uint8 and labels (N, 2, L, L) int16, parts and wholes.

    entries: index rows with a picture and its labels each, as `data.squeezed` gives them.
    """

    def __init__(self, entries, longest, device):
        entries = [entry for entry in entries if not entry[0]["validation"]]
        count = len(entries)
        self.longest, self.device = longest, device
        self.padding = torch.tensor(PADDING, dtype=torch.uint8, device=device)
        self.images = self.padding.repeat(count, longest, longest, 1)
        self.labels = torch.zeros(count, 2, longest, longest, dtype=torch.int16, device=device)
        self.padding = self.padding.float().view(1, 3, 1, 1)
        for i, (row, image, parts) in enumerate(entries):
            height, width = parts.shape
            self.images[i, :height, :width] = torch.from_numpy(image).to(device)
            layer = torch.from_numpy(parts.astype(np.int16)).to(device)
            self.labels[i, 0, :height, :width] = layer
            self.labels[i, 1, :height, :width] = layer > 0 if row["set"] == "ccp_clothing" else layer
        self.highest = max(int(parts.max()) for _, _, parts in entries)
        self.sizes = np.array([parts.shape for _, _, parts in entries])
        rows = [row for row, _, _ in entries]
        self.donors = [donor(row, row["instances"] if "instances" in row else inventory(parts)) for row, _, parts in entries]
        self.by_set = {name: [i for i, row in enumerate(rows) if row["set"] == name] for name in SETS}
        self.by_set = {name: found for name, found in self.by_set.items() if found}

    def upload(self, array, kind=np.float32):
        """An array on the device, as that kind of number; does not wait for what the device is doing."""
        return torch.from_numpy(np.ascontiguousarray(array, kind)).to(self.device, non_blocking=True)


def framing(rng, heights, widths, size, zoom):
    """Random affine maps (N, 2, 3) from pictures into the frame; often the very one of inference. As `data.framing`."""
    count = len(heights)
    flip = np.where(rng.random(count) < 0.5, -1, 1)
    longest = size / np.maximum(heights, widths)
    plain = np.zeros((count, 2, 3))
    plain[:, 0, 0], plain[:, 1, 1] = longest * flip, longest
    plain[:, 0, 2] = np.where(flip < 0, longest * (widths - 1), 0)
    plain[:, :, 2] += (0.5 * longest - 0.5)[:, None]
    scale = longest * np.exp(rng.uniform(np.log(0.6), np.log(2.5), count)) * zoom
    aspect = np.exp(rng.normal(0, 0.1, count))
    angle = np.where(rng.random(count) < 0.96, rng.normal(0, 0.1, count), rng.uniform(-np.pi, np.pi, count))
    spread = 0.5 * np.maximum(0, 1 - longest / scale)[:, None]
    source = np.stack([widths, heights], axis=1) * (0.5 + spread * rng.uniform(-1, 1, (count, 2)))
    target = size * (0.5 + rng.uniform(-0.12, 0.12, (count, 2)))
    free = moved(angle, scale * aspect * flip, scale / aspect, source, target)
    return np.where((rng.random(count) < 0.35)[:, None, None], plain, free)


def moved(angle, across, down, source, target):
    """Affine maps (N, 2, 3) that scale, turn, and bring `source` (N, 2) to `target`."""
    cos, sin = np.cos(angle), np.sin(angle)
    turn = np.stack([np.stack([cos * across, -sin * down], axis=1), np.stack([sin * across, cos * down], axis=1)], axis=1)
    return np.concatenate([turn, target[:, :, None] - turn @ source[:, :, None]], axis=2)


def warp(pictures, chosen, matrices, size):
    """Pictures `chosen` (N) in frames: images (N, 3, S, S) float, labels (N, 2, S, S) int32, inside (N, 1, S, S).

    An image is sampled at four points a pixel; outside lie the padding colour and void.
    """
    device, longest = pictures.device, pictures.longest
    inverse = np.linalg.inv(matrices[:, :, :2])
    back = np.concatenate([inverse, -inverse @ matrices[:, :, 2:]], axis=2)
    back, limits, chosen = pictures.upload(back), pictures.upload(pictures.sizes[chosen]), pictures.upload(chosen, np.int64)

    def source(cells):
        """x and y (N, cells, cells) in the picture of points spread evenly over the frame."""
        at = (torch.arange(cells, device=device) + 0.5) * (size / cells) - 0.5
        across, down = back[:, :, 0, None, None] * at, back[:, :, 1, None, None] * at[:, None]
        return (across + down + back[:, :, 2, None, None]).unbind(1)

    images = pictures.images[chosen].permute(0, 3, 1, 2).float().contiguous() - pictures.padding
    grid = torch.stack(source(2 * size), dim=-1) * (2 / longest) + (1 / longest - 1)
    images = F.avg_pool2d(F.grid_sample(images, grid, align_corners=False), 2) + pictures.padding
    x, y = source(size)
    height, width = limits[:, 0, None, None], limits[:, 1, None, None]
    inside = ((x > -0.5) & (x < width - 0.5) & (y > -0.5) & (y < height - 0.5)).unsqueeze(1)
    x, y = (v.round().long().clamp(0, longest - 1) for v in (x, y))
    place = (2 * chosen.view(-1, 1, 1) * longest + y) * longest + x
    place = place.unsqueeze(1) + (torch.arange(2, device=device) * longest * longest).view(1, 2, 1, 1)
    labels = pictures.labels.view(-1)[place].int() * inside
    return images, labels, inside


def blur(x, deviations, radius):
    """Gaussian blur of maps (N, C, H, W), each with its own standard deviation."""
    offsets = torch.arange(-radius, radius + 1, device=x.device)
    weights = torch.exp(-0.5 * (offsets / deviations.view(-1, 1)).square())
    weights = (weights / weights.sum(dim=1, keepdim=True)).view(*weights.shape, 1, 1, 1)
    for axis in (2, 3):
        pad = (radius, radius, 0, 0) if axis == 3 else (0, 0, radius, radius)
        padded = F.pad(x, pad, mode="replicate")
        x = sum(weights[:, k] * padded.narrow(axis, k, x.shape[axis]) for k in range(2 * radius + 1))
    return x


class Batches:
    """Draws batches; a batch depends on the seed and its number alone."""

    def __init__(self, pictures, seed, size, batch, count, pasted=0.5, boxes=0.4):
        self.pictures, self.seed, self.size, self.batch, self.count = pictures, seed, size, batch, count
        self.pasted, self.boxes, self.device = pasted, boxes, pictures.device
        self.names = list(pictures.by_set)
        self.shares, self.donors = (np.array([getattr(SETS[n], key) for n in self.names]) for key in ("share", "donor"))
        self.shares, self.donors = self.shares / self.shares.sum(), self.donors / self.donors.sum()
        # A pasted instance gets labels above those that are there; up to three are pasted.
        self.most = 4 * (pictures.highest + 1)
        self.generator = torch.Generator(self.device)
        self.kinds = torch.tensor([[1, -1], [2, 3]], device=self.device)

    def upload(self, *columns):
        """Arrays as float32 tensors on the device."""
        return [self.pictures.upload(column) for column in columns]

    def uniform(self, *shape):
        return torch.rand(shape, generator=self.generator, device=self.device)

    def recolour(self, rng, x):
        """Photometric noise on images (N, 3, H, W): exposure, contrast, tint, saturation, grey, gamma, blur, grain."""
        count = len(x)
        lit = rng.random(count) < 0.6
        gain, contrast = (np.where(lit, rng.uniform(0.7, 1.35, count), 1) for _ in range(2))
        offset = np.where(lit, rng.uniform(-22, 22, count), 0)
        mixing = np.where(lit[:, None], rng.uniform(0.88, 1.13, (count, 3)), 1)[:, :, None] * np.eye(3)
        choice = rng.random(count)
        colour = np.where(rng.random(count) < 0.4, rng.uniform(0.2, 1.8, count), 1) * (choice >= 0.06)
        mixing = (colour[:, None, None] * np.eye(3) + (1 - colour)[:, None, None] / 3) @ mixing
        for i in np.flatnonzero((choice >= 0.06) & (choice < 0.1)):
            mixing[i] = mixing[i, rng.permutation(3)]
        negative = (choice >= 0.1) & (choice < 0.11)
        mixing[negative] *= -1
        gamma = np.where(rng.random(count) < 0.25, np.exp(rng.normal(0, 0.25, count)), 1)
        mixing, gain, contrast, offset, negative, gamma = self.upload(mixing, gain, contrast, offset, negative, gamma)
        # Contrast turns about the mean of the exposed picture; all of it is one affine map of the colours.
        shift = contrast * offset + (1 - contrast) * (gain * x.mean(dim=(1, 2, 3)) + offset)
        constant = shift.view(-1, 1, 1) * mixing.sum(dim=2, keepdim=True) + 255 * negative.view(-1, 1, 1)
        mixing = mixing * (contrast * gain).view(-1, 1, 1)
        x = torch.baddbmm(constant, mixing, x.flatten(2)).view_as(x).clamp(0, 255)
        x = 255 * (x / 255).pow(gamma.view(-1, 1, 1, 1))
        choice = rng.random(count)
        soft, grainy = np.flatnonzero(choice < 0.12), np.flatnonzero((choice >= 0.12) & (choice < 0.27))
        if len(soft):
            rows = self.pictures.upload(soft, np.int64)
            x[rows] = blur(x[rows], *self.upload(rng.uniform(0.4, 1.3, len(soft))), 4)
        if len(grainy):
            rows = self.pictures.upload(grainy, np.int64)
            strength, grey = self.upload(rng.uniform(2, 14, len(grainy)), rng.random(len(grainy)) < 0.4)
            noise = torch.randn((len(grainy), *x.shape[1:]), generator=self.generator, device=self.device)
            noise = torch.where(grey.view(-1, 1, 1, 1) > 0, noise[:, :1], noise)
            x[rows] = x[rows] + strength.view(-1, 1, 1, 1) * noise
        return x.clamp(0, 255)

    def cut(self, rng):
        """A random instance that may be cut out: its picture, layer, and (label, left, top, right, bottom)."""
        while True:
            name = self.names[rng.choice(len(self.names), p=self.donors)]
            index = int(rng.choice(self.pictures.by_set[name]))
            found = self.pictures.donors[index]
            layer = 0 if name == "ccp_clothing" and rng.random() < 0.3 else 1
            rows = found.wholes if layer else found.parts
            if len(rows):
                return index, layer, rows[rng.integers(len(rows))][:5]

    def paste(self, rng, images, labels, targets):
        """Lays one cut instance each over the examples `targets` (indices), in place."""
        size, count = self.size, len(targets)
        index, layer, rows = (np.array(column) for column in zip(*(self.cut(rng) for _ in range(count))))
        box = rows[:, 1:].astype(np.float64)
        extent = (box[:, 2:] - box[:, :2]).max(axis=1) + 1
        scale = np.minimum(2, size * np.exp(rng.uniform(np.log(0.15), np.log(0.85), count)) / extent)
        flip = np.where(rng.random(count) < 0.5, -1, 1)
        centre = (box[:, :2] + box[:, 2:] + 1) / 2
        matrices = moved(rng.normal(0, 0.25, count), scale * flip, scale, centre, size * rng.uniform(0.1, 0.9, (count, 2)))
        front, their, _ = warp(self.pictures, index, matrices, size)
        layer, wanted = (self.pictures.upload(v, np.int64).view(-1, 1, 1) for v in (layer, rows[:, 0]))
        mask = torch.where(layer > 0, their[:, 1], their[:, 0]) == wanted
        mask = mask & (mask.sum(dim=(1, 2), keepdim=True) >= 40)
        painted, *sigmas, across, down, dark = self.upload(
            rng.random(count) < 0.5, rng.uniform(0.4, 1, count), rng.uniform(1, 0.04 * size, count) / 4,
            rng.uniform(-0.06, 0.06, count), rng.uniform(0, 0.05, count),
            rng.uniform(0.2, 0.6, count) * (rng.random(count) < 0.4),
        )
        shape = mask.unsqueeze(1).float()
        soft = blur(shape, sigmas[0], 3)
        front = torch.where(painted.view(-1, 1, 1, 1) > 0, self.recolour(rng, front), front)
        # A shadow that falls to one side, made at a quarter of the size.
        small = blur(F.avg_pool2d(shape, 4), sigmas[1], 9)
        theta = torch.zeros(count, 2, 3, device=self.device)
        theta[:, 0, 0] = theta[:, 1, 1] = 1
        theta[:, 0, 2], theta[:, 1, 2] = -2 * across, -2 * down
        grid = F.affine_grid(theta, [count, 1, size, size], align_corners=False)
        shadow = F.grid_sample(small, grid, align_corners=False)
        rows = self.pictures.upload(targets, np.int64)
        back = images[rows] * (1 - dark.view(-1, 1, 1, 1) * shadow)
        images[rows] = back * (1 - soft) + front * soft
        mine = labels[rows]
        top = mine.amax(dim=(2, 3), keepdim=True)
        new = torch.stack([torch.where(their[:, 0] > 0, their[:, 0] + top[:, 0], 0), (top[:, 1] + 1).expand_as(mask)], dim=1)
        labels[rows] = torch.where(mask.unsqueeze(1), new, mine)

    def candidates(self, labels):
        """Which labels (N, 2, most) an example's prompts may ask for; areas are counted on every other row and column."""
        sparse = labels[:, :, ::2, ::2].flatten(2).long()
        areas = torch.zeros(*sparse.shape[:2], self.most, device=self.device)
        areas.scatter_add_(2, sparse, torch.ones((), device=self.device).expand(sparse.shape))
        areas[..., 0] = 0
        return areas >= prompts.SMALLEST / 4

    def choose(self, allowed):
        """`count` labels an example (N, P) and their layers (N, P): each label once before any comes again."""
        count = self.count
        order = torch.where(allowed, self.uniform(*allowed.shape), -1.0)
        best, ids = order.topk(count, dim=2)
        available = (best > 0).sum(dim=2)
        ids = torch.where(best > 0, ids, self.most)  # Which no pixel has.
        layers = (self.uniform(len(allowed), count) >= 0.8).long()
        layers = torch.where(available.gather(1, layers) > 0, layers, 1 - layers)
        rank = torch.stack([(layers == 0).cumsum(dim=1), (layers == 1).cumsum(dim=1)], dim=1) - 1
        rank = (rank.gather(1, layers.unsqueeze(1))[:, 0]) % available.gather(1, layers).clamp(min=1)
        return ids.flatten(1).gather(1, layers * count + rank), layers

    def ask(self, labels, ids, layers):
        """Targets (N, P, S/4, S/4) uint8 in 0…16, points (N, P, 2, 2) and kinds (N, P, 2) for chosen labels."""
        size, count = self.size, self.count
        per_layer = [labels[:, k].unsqueeze(1) == ids.view(-1, count, 1, 1) for k in (0, 1)]
        masks = torch.where(layers.view(-1, count, 1, 1) > 0, per_layer[1], per_layer[0]).flatten(0, 1)
        targets = (16 * F.avg_pool2d(masks.half() if masks.is_cuda else masks.float(), 4)).round().to(torch.uint8)
        depth = prompts.depth(targets >= 8).unsqueeze(1)
        depth = F.interpolate(depth, (size, size), mode="bilinear", align_corners=False)[:, 0]
        noise = self.uniform(len(masks), size * size)
        flat = masks.flatten(1)
        middle = torch.where(flat, depth.flatten(1) + 1 + 0.02 * noise, 0).argmax(dim=1)
        anywhere = (flat * noise).argmax(dim=1)
        choice = self.uniform(len(masks))
        click = torch.where(choice < 0.6 * (1 - self.boxes), middle, anywhere)
        click = torch.stack([click % size, click // size], dim=1).float()
        edges = []
        for line in (masks.any(dim=1), masks.any(dim=2)):
            ahead = line.float()
            edges.append((ahead.argmax(dim=1), size - 1 - ahead.flip(1).argmax(dim=1)))
        box = torch.stack([edges[0][0], edges[1][0], edges[0][1], edges[1][1]], dim=1).float()
        sides = (box[:, 2:] - box[:, :2]).repeat(1, 2)
        noise = torch.randn(box.shape, generator=self.generator, device=self.device) * (0.1 * sides).clamp(max=0.02 * size + 2)
        box = (box + noise * (self.uniform(len(box), 1) < 0.75)).clamp(0, size - 1).view(-1, 2, 2)
        boxed = (choice >= 1 - self.boxes).view(-1, 1)
        points = torch.where(boxed.unsqueeze(2), box, torch.stack([click, torch.zeros_like(click)], dim=1))
        kinds = torch.where(boxed, self.kinds[1], self.kinds[0])
        return [column.unflatten(0, (-1, count)) for column in (targets, points, kinds)]

    @torch.no_grad()
    def draw(self, number):
        """Batch `number`: images (B, S, S, 3) float in 0…255, and what `ask` returns."""
        rng = np.random.default_rng((self.seed, number))
        self.generator.manual_seed(int(np.random.SeedSequence((self.seed, number)).generate_state(1)[0]))
        total = self.batch + -(-self.batch // SPARE)
        sets = rng.choice(len(self.names), total, p=self.shares)
        index = np.array([rng.choice(self.pictures.by_set[self.names[s]]) for s in sets])
        zoom, open_to_paste = (np.array([getattr(SETS[n], key) for n in self.names])[sets] for key in ("zoom", "open"))
        heights, widths = self.pictures.sizes[index].T
        images, labels, inside = warp(self.pictures, index, framing(rng, heights, widths, self.size, zoom), self.size)
        covered = ~inside
        pasting = open_to_paste & (rng.random(total) < self.pasted)
        before = images
        for chance in (1, 0.5, 0.4):
            targets = np.flatnonzero(pasting & (rng.random(total) < chance))
            if len(targets):
                if images is before:
                    images = images.clone()
                self.paste(rng, images, labels, targets)
        allowed = self.candidates(labels)
        # Examples with instances first; the few without any that are left over ask for an empty mask.
        kept = allowed.flatten(1).any(dim=1).float().argsort(descending=True, stable=True)[: self.batch]
        untouched = (covered & (images == before).all(dim=1, keepdim=True))[kept]
        images, labels, allowed = images[kept], labels[kept], allowed[kept]
        images = torch.where(untouched, self.pictures.padding, self.recolour(rng, images))
        return [images.permute(0, 2, 3, 1), *self.ask(labels, *self.choose(allowed))]
