/**
 * The outline of a mask as a path: marching squares over the covered share of grid cells, so that its points lie
 * between the cells and the line is smooth at every zoom. Fill and line of a mask are drawn with the same path.
 */

import { coverage } from './rle.js';

/** Scratch of `trace`, kept from one mask to the next: the edge to which each edge leads. */
let following = new Int32Array(0);

/**
 * @param {import('./segmenter.js').Mask} mask
 * @param {number} finest the longest side of the grid on which the outline is found, in cells
 * @returns {Path2D} in pixels of the picture
 */
export function outline(mask, finest) {
  const path = new Path2D();
  if (!(mask.bbox[2] > 0 && mask.bbox[3] > 0)) return path;
  const [height, width] = mask.segmentation.size;
  const grid = coverage(mask, Math.min(1, finest / Math.max(width, height)));
  for (const ring of trace(grid)) addRing(path, smooth(ring), grid);
  return path;
}

/**
 * Rings around all that is covered by more than half, the covered side always at the same hand.
 * An edge joins two neighbouring cells: number `index` the cell and its right neighbour, `cells + index` the cell and
 * the one below. Each edge that the outline crosses is the end of one line and the beginning of another.
 * @returns {Float32Array[]} x and y in turn, in cells from the grid's first cell's middle
 */
function trace({ values, width, height }) {
  const cells = width * height;
  if (following.length < 2 * cells) following = new Int32Array(2 * cells);
  const next = following;
  const starts = [];
  const link = (from, to) => {
    next[from] = to + 1;
    starts.push(from);
  };
  for (let y = 0; y + 1 < height; y += 1) {
    let index = y * width;
    let left = (values[index] > 0.5 ? 1 : 0) | (values[index + width] > 0.5 ? 8 : 0);
    for (let x = 0; x + 1 < width; x += 1, index += 1) {
      const right = (values[index + 1] > 0.5 ? 2 : 0) | (values[index + 1 + width] > 0.5 ? 4 : 0);
      const corners = left | right;
      left = (right & 2 ? 1 : 0) | (right & 4 ? 8 : 0);
      if (corners === 0 || corners === 15) continue;
      const north = index;
      const south = index + width;
      const west = cells + index;
      const east = cells + index + 1;
      switch (corners) {
        case 1: link(west, north); break;
        case 2: link(north, east); break;
        case 3: link(west, east); break;
        case 4: link(east, south); break;
        case 5: link(west, north); link(east, south); break;
        case 6: link(north, south); break;
        case 7: link(west, south); break;
        case 8: link(south, west); break;
        case 9: link(south, north); break;
        case 10: link(north, east); link(south, west); break;
        case 11: link(south, east); break;
        case 12: link(east, west); break;
        case 13: link(east, north); break;
        case 14: link(north, west); break;
      }
    }
  }
  const rings = [];
  const points = [];
  for (const start of starts) {
    if (next[start] === 0) continue;
    points.length = 0;
    for (let edge = start; next[edge] !== 0;) {
      const below = edge >= cells;
      const cell = below ? edge - cells : edge;
      const y = Math.floor(cell / width);
      const x = cell - y * width;
      const a = values[cell];
      const b = values[cell + (below ? width : 1)];
      const share = (0.5 - a) / (b - a);
      points.push(below ? x : x + share, below ? y + share : y);
      const to = next[edge] - 1;
      next[edge] = 0;
      edge = to;
    }
    if (points.length >= 6) rings.push(Float32Array.from(points));
  }
  return rings;
}

/** Each point becomes the mean of itself (twice) and its neighbours: the stairs of single pixels go, corners hardly. */
function smooth(ring) {
  const length = ring.length;
  if (length < 16) return ring;
  const result = new Float32Array(length);
  for (let index = 0; index < length; index += 1) {
    result[index] = 0.25 * ring[(index + length - 2) % length] + 0.5 * ring[index] + 0.25 * ring[(index + 2) % length];
  }
  return result;
}

function addRing(path, ring, { x, y, scale }) {
  const place = (index, origin) => (ring[index] + origin + 0.5) / scale;
  path.moveTo(place(0, x), place(1, y));
  for (let index = 2; index < ring.length; index += 2) path.lineTo(place(index, x), place(index + 1, y));
  path.closePath();
}
